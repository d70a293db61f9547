package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultpreemption"
	plfeature "k8s.io/kubernetes/pkg/scheduler/framework/plugins/feature"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
)

// preemption is what DefaultPreemption would do for a pod that no node can take. Nothing is evicted.
type preemption struct {
	Candidates map[string]victims `json:"candidates"`
	Chosen     []string           `json:"chosen"`  // the nodes among which only chance decides
	Message    string             `json:"message"` // without candidates: what follows "preemption: "
}

type victims struct {
	Pods       []string `json:"pods"` // namespace/name, the most important first
	Violations int64    `json:"violations"`
}

// newPreemption makes the plugin apart from the framework, which does not give out its own: the profile may be without it.
func newPreemption(ctx context.Context, profile *config.KubeSchedulerProfile, handle fwk.Handle) (*defaultpreemption.DefaultPreemption, error) {
	for _, plugin := range profile.PluginConfig {
		if plugin.Name == names.DefaultPreemption {
			return defaultpreemption.New(ctx, plugin.Args, handle, plfeature.NewSchedulerFeaturesFromGates(utilfeature.DefaultFeatureGate))
		}
	}
	return nil, fmt.Errorf("the default profile has no arguments for %s", names.DefaultPreemption)
}

// preempt follows Evaluator.Preempt (framework/preemption/preemption.go) up to the choice of a candidate.
func (j *judge) preempt(ctx context.Context, state fwk.CycleState, pod *v1.Pod, found *framework.NodeToStatus, nodes int) (*preemption, error) {
	answer := &preemption{Candidates: map[string]victims{}, Chosen: []string{}}
	if may, why := j.preemption.PodEligibleToPreemptOthers(ctx, pod, found.Get(pod.Status.NominatedNodeName)); !may {
		answer.Message = why
		return answer, nil
	}
	potential, err := found.NodesForStatusCode(j.snapshot.NodeInfos(), fwk.Unschedulable)
	if err != nil {
		return nil, err
	}
	statuses := framework.NewDefaultNodeToStatus()
	if len(potential) > 0 {
		var budgets []*policyv1.PodDisruptionBudget
		if budgets, err = j.preemption.Evaluator.PdbLister.List(labels.Everything()); err != nil {
			return nil, err
		}
		// Upstream's order is a map's, and matters for a pod of several budgets: here it is that of their names.
		slices.SortFunc(budgets, func(a, b *policyv1.PodDisruptionBudget) int {
			return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
		})
		candidates, told, err := j.preemption.Evaluator.DryRunPreemption(ctx, state, pod, potential, budgets, 0, int32(len(potential)))
		if err != nil && len(candidates) == 0 {
			return nil, err
		}
		statuses = told
		for _, candidate := range candidates {
			found := victims{Pods: []string{}, Violations: candidate.Victims().NumPDBViolations}
			for _, victim := range candidate.Victims().Pods {
				found.Pods = append(found.Pods, victim.Namespace+"/"+victim.Name)
			}
			answer.Candidates[candidate.Name()] = found
		}
		chosen := map[string]bool{}
		for range 50 * len(candidates) { // ties are broken by the order of a map: asked often enough, each tells its name
			chosen[j.preemption.Evaluator.SelectCandidate(ctx, candidates).Name()] = true
		}
		answer.Chosen = slices.AppendSeq(answer.Chosen, maps.Keys(chosen))
		slices.Sort(answer.Chosen)
	}
	if len(answer.Candidates) == 0 {
		statuses.SetAbsentNodesStatus(fwk.NewStatus(fwk.UnschedulableAndUnresolvable, "Preemption is not helpful for scheduling"))
		answer.Message = (&framework.FitError{Pod: pod, NumAllNodes: nodes, Diagnosis: framework.Diagnosis{NodeToStatus: statuses}}).Error()
	}
	return answer, nil
}
