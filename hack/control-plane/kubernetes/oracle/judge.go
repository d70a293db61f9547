package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/kubernetes/fake"
	resourceslicetracker "k8s.io/dynamic-resource-allocation/resourceslice/tracker"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/features"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/scheme"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	internalcache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/dynamicresources"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/nodevolumelimits"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	"k8s.io/kubernetes/pkg/scheduler/util/assumecache"
)

// judge holds one framework a profile, put together as scheduler.New does it, for all cases.
type judge struct {
	*profile  // of the pod that is being judged; before that, the first
	profiles  map[string]*profile
	factory   *stillFactory
	snapshot  *swappedSnapshot
	nominated *nominations
}

type profile struct {
	framework framework.Framework
	order     []string // of all enabled plugins, as configured
	weights   map[string]int64
	// preemption is nil unless asked for
	preemption *defaultpreemption.DefaultPreemption
}

// swappedSnapshot lets the plugins, which keep a reference to the snapshot, see each case's own.
type swappedSnapshot struct{ *internalcache.Snapshot }

// nominations are the pods that the queue would report as nominated.
type nominations struct{ on map[string][]fwk.PodInfo }

func (n *nominations) AddNominatedPod(klog.Logger, fwk.PodInfo, *fwk.NominatingInfo) {}
func (n *nominations) DeleteNominatedPodIfExists(*v1.Pod)                            {}
func (n *nominations) UpdateNominatedPod(klog.Logger, *v1.Pod, fwk.PodInfo)          {}
func (n *nominations) NominatedPodsForNode(node string) []fwk.PodInfo                { return n.on[node] }

func newJudge(ctx context.Context, profiles []config.KubeSchedulerProfile, preempting bool) (*judge, error) {
	metrics.Register()
	client := fake.NewClientset()
	factory := newStillFactory(client)
	snapshot := &swappedSnapshot{internalcache.NewEmptySnapshot()}
	nominated := &nominations{}

	claims := assumecache.NewAssumeCache(klog.FromContext(ctx), factory.Resource().V1().ResourceClaims().Informer(), "ResourceClaim", "", nil)
	slicesOf, err := resourceslicetracker.StartTracker(ctx, resourceslicetracker.Options{
		EnableDeviceTaintRules:   utilfeature.DefaultFeatureGate.Enabled(features.DRADeviceTaintRules),
		EnableConsumableCapacity: utilfeature.DefaultFeatureGate.Enabled(features.DRAConsumableCapacity),
		SliceInformer:            factory.Resource().V1().ResourceSlices(),
		KubeClient:               client,
	})
	if err != nil {
		return nil, err
	}
	options := []frameworkruntime.Option{
		frameworkruntime.WithClientSet(client),
		frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithSharedDRAManager(dynamicresources.NewDRAManager(ctx, claims, slicesOf, factory)),
		frameworkruntime.WithSharedCSIManager(nodevolumelimits.NewCSIManager(factory.Storage().V1().CSINodes().Lister())),
		frameworkruntime.WithSnapshotSharedLister(snapshot),
		frameworkruntime.WithPodNominator(nominated),
		frameworkruntime.WithParallelism(1),
	}
	j := &judge{profiles: map[string]*profile{}, factory: factory, snapshot: snapshot, nominated: nominated}
	for i := range profiles {
		made, err := newProfile(ctx, &profiles[i], preempting, options)
		if err != nil {
			return nil, fmt.Errorf("profile %s: %w", profiles[i].SchedulerName, err)
		}
		j.profiles[profiles[i].SchedulerName] = made
		if i == 0 {
			j.profile = made
		}
	}
	return j, nil
}

func newProfile(ctx context.Context, asked *config.KubeSchedulerProfile, preempting bool, options []frameworkruntime.Option) (*profile, error) {
	built, err := frameworkruntime.NewFramework(ctx, plugins.NewInTreeRegistry(), asked, options...)
	if err != nil {
		return nil, err
	}
	made := &profile{framework: built, weights: map[string]int64{}}
	if preempting {
		if made.preemption, err = newPreemption(ctx, asked, built); err != nil {
			return nil, err
		}
	}
	for _, plugin := range asked.Plugins.MultiPoint.Enabled {
		made.order = append(made.order, plugin.Name)
	}
	for _, plugin := range built.ListPlugins().Score.Enabled {
		if plugin.Name != names.DynamicResources {
			made.weights[plugin.Name] = int64(plugin.Weight)
		}
	}
	return made, nil
}

// configured are the profiles of a file, as kube-scheduler reads it (cmd/kube-scheduler/app/options/configfile.go).
func configured(path string) ([]config.KubeSchedulerProfile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	object, _, err := scheme.Codecs.UniversalDecoder().Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	all, ok := object.(*config.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("%s: got %T, expected a KubeSchedulerConfiguration", path, object)
	}
	if wrong := validation.ValidateKubeSchedulerConfiguration(all); wrong != nil {
		return nil, wrong
	}
	return all.Profiles, nil
}

// defaultProfile is what kube-scheduler runs without a configuration, less the plugins that are not in `only` (nil: all).
func defaultProfile(only []string) (*config.KubeSchedulerProfile, error) {
	var versioned configv1.KubeSchedulerConfiguration
	scheme.Scheme.Default(&versioned)
	var all config.KubeSchedulerConfiguration
	if err := scheme.Scheme.Convert(&versioned, &all, nil); err != nil {
		return nil, err
	}
	profile := &all.Profiles[0]
	if only == nil {
		return profile, nil
	}
	keep := sets.New(only...).Insert(names.PrioritySort, names.DefaultBinder) // a framework needs one of each
	var kept []config.Plugin
	for _, plugin := range profile.Plugins.MultiPoint.Enabled {
		if keep.Has(plugin.Name) {
			kept = append(kept, plugin)
			keep.Delete(plugin.Name)
		}
	}
	if keep.Len() > 0 {
		return nil, fmt.Errorf("-plugins: not in the default profile: %s", strings.Join(sets.List(keep), ", "))
	}
	profile.Plugins.MultiPoint.Enabled = kept
	return profile, nil
}

func (j *judge) info(version string) map[string]any {
	filters := []string{}
	for _, plugin := range j.framework.ListPlugins().Filter.Enabled {
		filters = append(filters, plugin.Name)
	}
	return map[string]any{"version": version, "plugins": j.order, "filters": filters, "weights": j.weights}
}

// judge follows schedulePod, findNodesThatFitPod and prioritizeNodes of pkg/scheduler/schedule_one.go, but over all nodes:
// no sampling, no shortcut for the node that the pod itself is nominated to, and scores also for a single feasible node.
func (j *judge) judge(asked *scheduleCase) result {
	if err := j.load(asked); err != nil {
		return result{ID: asked.ID, Error: err.Error()}
	}
	defer j.factory.clear()
	if made, ok := j.profiles[profileOf(asked.Pod)]; ok {
		j.profile = made
	}
	answer, err := j.cycle(asked)
	if err != nil {
		return result{ID: asked.ID, Error: err.Error()}
	}
	return *answer
}

func (j *judge) cycle(asked *scheduleCase) (*result, error) {
	ctx := context.Background()
	pod := asked.Pod
	answer := &result{
		ID: asked.ID, Nodes: map[string]nodeStatus{}, Scores: map[string]map[string]int64{},
		Weights: j.weights, Totals: map[string]int64{},
	}
	nodes, err := j.snapshot.NodeInfos().List()
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		answer.Message = "no nodes available to schedule pods" // scheduler.ErrNoNodesAvailable
		return answer, nil
	}
	state := framework.NewCycleState()
	diagnosis := framework.Diagnosis{NodeToStatus: framework.NewDefaultNodeToStatus()}
	narrowed, status, by := j.framework.RunPreFilterPlugins(ctx, state, pod)
	if !status.IsSuccess() {
		if !status.IsRejected() {
			return nil, status.AsError()
		}
		diagnosis.NodeToStatus.SetAbsentNodesStatus(status)
		diagnosis.PreFilterMsg = status.Message()
		rejected := told(status, by)
		answer.PreFilter = &rejected
		for _, node := range nodes {
			answer.Nodes[node.Node().Name] = rejected
		}
		return answer, j.misfit(ctx, state, pod, diagnosis, answer)
	}
	if !narrowed.AllNodes() {
		diagnosis.NodeToStatus.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable,
			fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", sets.List(by))))
	}
	var feasible []fwk.NodeInfo
	for _, node := range nodes {
		name := node.Node().Name
		if !narrowed.AllNodes() && !narrowed.NodeNames.Has(name) {
			answer.Nodes[name] = told(diagnosis.NodeToStatus.AbsentNodesStatus(), by)
			continue
		}
		status := j.framework.RunFilterPluginsWithNominatedPods(ctx, state, pod, node)
		if status.Code() == fwk.Error {
			return nil, status.AsError()
		}
		answer.Nodes[name] = told(status, nil)
		if status.IsSuccess() {
			feasible = append(feasible, node)
		} else {
			diagnosis.NodeToStatus.Set(name, status)
		}
	}
	if len(feasible) == 0 {
		return answer, j.misfit(ctx, state, pod, diagnosis, answer)
	}
	return answer, j.score(ctx, state, pod, feasible, answer)
}

// misfit completes the answer for a pod that no node can take.
func (j *judge) misfit(ctx context.Context, state fwk.CycleState, pod *v1.Pod, diagnosis framework.Diagnosis, answer *result) (err error) {
	answer.Message = (&framework.FitError{Pod: pod, NumAllNodes: len(answer.Nodes), Diagnosis: diagnosis}).Error()
	if j.preemption != nil {
		answer.Preemption, err = j.preempt(ctx, state, pod, diagnosis.NodeToStatus, len(answer.Nodes))
	}
	return err
}

func (j *judge) score(ctx context.Context, state fwk.CycleState, pod *v1.Pod, feasible []fwk.NodeInfo, answer *result) error {
	status := j.framework.RunPreScorePlugins(ctx, state, pod, feasible)
	var scored []fwk.NodePluginScores
	if status.IsSuccess() {
		scored, status = j.framework.RunScorePlugins(ctx, state, pod, feasible)
	}
	if !status.IsSuccess() {
		if len(feasible) == 1 {
			return nil // upstream takes a single node without asking for its score, so nothing has failed
		}
		return status.AsError()
	}
	for _, node := range scored {
		answer.Totals[node.Name] = 0
		for _, score := range node.Scores {
			weight, counted := j.weights[score.Name]
			if !counted {
				continue
			}
			if answer.Scores[score.Name] == nil {
				answer.Scores[score.Name] = map[string]int64{}
			}
			answer.Scores[score.Name][node.Name] = score.Score / weight // upstream reports them multiplied
			answer.Totals[node.Name] += score.Score
		}
	}
	return nil
}

// told puts a status in the result's form. A node outside the set that PreFilter plugins narrowed the search to has no plugin
// in its status: it is theirs.
func told(status *fwk.Status, narrowing sets.Set[string]) nodeStatus {
	if status.IsSuccess() { // also nil
		return nodeStatus{Code: fwk.Success.String(), Reasons: []string{}}
	}
	found := nodeStatus{Code: status.Code().String(), Plugin: status.Plugin(), Reasons: []string{}}
	if found.Plugin == "" {
		found.Plugin = strings.Join(sets.List(narrowing), ",")
	}
	found.Reasons = append(found.Reasons, status.Reasons()...)
	slices.Sort(found.Reasons)
	return found
}

// load makes the case the state of the world, as the scheduler's event handlers would (pkg/scheduler/eventhandlers.go): pods
// that ended are not seen at all; assigned ones count on their node; of the pending ones, those of this scheduler's profiles
// that are not gated and carry a nomination count as nominated.
func (j *judge) load(asked *scheduleCase) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // ends the cache's goroutine, which only updates metrics
	logger := klog.FromContext(ctx)
	cache := internalcache.New(ctx, nil, false)
	j.nominated.on = map[string][]fwk.PodInfo{}
	for _, node := range asked.Nodes {
		cache.AddNode(logger, node)
		j.factory.add(node)
	}
	for _, pod := range asked.Pods {
		if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
			continue
		}
		j.factory.add(pod)
		if pod.Spec.NodeName != "" {
			if err := cache.AddPod(logger, pod); err != nil {
				return err
			}
			continue
		}
		node := pod.Status.NominatedNodeName
		if node != "" && len(pod.Spec.SchedulingGates) == 0 && j.ours(profileOf(pod), profileOf(asked.Pod)) {
			info, err := framework.NewPodInfo(pod)
			if err != nil {
				// The queue keeps such a pod with what could be read of it, too (newQueuedPodInfo ignores the error).
				klog.FromContext(ctx).V(4).Info("nominated pod cannot be read whole", "pod", klog.KObj(pod), "err", err)
			}
			j.nominated.on[node] = append(j.nominated.on[node], info)
		}
	}
	add(j, asked.Namespaces)
	add(j, asked.Services)
	add(j, asked.ReplicationControllers)
	add(j, asked.ReplicaSets)
	add(j, asked.StatefulSets)
	add(j, asked.StorageClasses)
	add(j, asked.CSIDrivers)
	add(j, asked.CSINodes)
	add(j, asked.PVs)
	add(j, asked.PVCs)
	add(j, asked.CSIStorageCapacities)
	add(j, asked.VolumeAttachments)
	add(j, asked.PDBs)
	j.snapshot.Snapshot = internalcache.NewEmptySnapshot()
	if err := cache.UpdateSnapshot(logger, j.snapshot.Snapshot); err != nil {
		return errors.Join(errors.New("the snapshot is inconsistent"), err)
	}
	return nil
}

func add[T runtime.Object](j *judge, objects []T) {
	for _, object := range objects {
		j.factory.add(object)
	}
}

// ours tells whether a pod of that scheduler name waits in the queue that the asked one waits in: all profiles share one.
func (j *judge) ours(name, asked string) bool {
	if _, served := j.profiles[asked]; !served {
		return name == asked
	}
	_, served := j.profiles[name]
	return served
}

func profileOf(pod *v1.Pod) string { return orElse(pod.Spec.SchedulerName, v1.DefaultSchedulerName) }
