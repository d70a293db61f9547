package main

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"
)

// scheduleCase is one line of input: objects as the API server stores them.
type scheduleCase struct {
	ID    json.RawMessage `json:"id"`
	Nodes []*v1.Node      `json:"nodes"`
	Pods  []*v1.Pod       `json:"pods"`
	Pod   *v1.Pod         `json:"pod"`

	Namespaces             []*v1.Namespace                 `json:"namespaces"`
	Services               []*v1.Service                   `json:"services"`
	ReplicationControllers []*v1.ReplicationController     `json:"replicationcontrollers"`
	ReplicaSets            []*appsv1.ReplicaSet            `json:"replicasets"`
	StatefulSets           []*appsv1.StatefulSet           `json:"statefulsets"`
	PVCs                   []*v1.PersistentVolumeClaim     `json:"pvcs"`
	PVs                    []*v1.PersistentVolume          `json:"pvs"`
	StorageClasses         []*storagev1.StorageClass       `json:"storageclasses"`
	CSINodes               []*storagev1.CSINode            `json:"csinodes"`
	CSIDrivers             []*storagev1.CSIDriver          `json:"csidrivers"`
	CSIStorageCapacities   []*storagev1.CSIStorageCapacity `json:"csistoragecapacities"`
	VolumeAttachments      []*storagev1.VolumeAttachment   `json:"volumeattachments"`
	PDBs                   []*policyv1.PodDisruptionBudget `json:"pdbs"`
}

type nodeStatus struct {
	Code    string   `json:"code"`
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
}

// result is one line of output. With Error set, the rest is left out.
type result struct {
	ID         json.RawMessage             `json:"id"`
	Error      string                      `json:"error,omitempty"`
	PreFilter  *nodeStatus                 `json:"prefilter"`
	Nodes      map[string]nodeStatus       `json:"nodes"`
	Scores     map[string]map[string]int64 `json:"scores"`
	Weights    map[string]int64            `json:"weights"`
	Totals     map[string]int64            `json:"totals"`
	Message    string                      `json:"message,omitempty"`
	Preemption *preemption                 `json:"preemption,omitempty"`
}

func (r result) MarshalJSON() ([]byte, error) {
	if len(r.ID) == 0 {
		r.ID = json.RawMessage("null")
	}
	if r.Error != "" {
		return json.Marshal(map[string]any{"id": r.ID, "error": r.Error})
	}
	type plain result
	return json.Marshal(plain(r))
}

// readCase reads a line as the API's own machinery reads JSON: case-sensitive names, unknown fields ignored. What it returns
// beside an error has the id if that could be read.
func readCase(line []byte) (*scheduleCase, error) {
	found := &scheduleCase{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(line, found); err != nil {
		var alone struct {
			ID json.RawMessage `json:"id"`
		}
		_ = kjson.UnmarshalCaseSensitivePreserveInts(line, &alone) // not even JSON: the answer has id null
		return &scheduleCase{ID: alone.ID}, fmt.Errorf("the line is not a case: %w", err)
	}
	if found.Pod == nil {
		return found, fmt.Errorf("pod: got nothing, expected the pending v1 Pod")
	}
	for _, node := range found.Nodes {
		if node == nil || node.Name == "" {
			return found, fmt.Errorf("nodes: got a node without metadata.name")
		}
		node.UID = types.UID(orElse(string(node.UID), node.Name))
	}
	for _, pod := range append([]*v1.Pod{found.Pod}, found.Pods...) {
		if pod == nil || pod.Name == "" {
			return found, fmt.Errorf("pods: got a pod without metadata.name")
		}
		pod.Namespace = orElse(pod.Namespace, metav1.NamespaceDefault)
		pod.UID = types.UID(orElse(string(pod.UID), pod.Namespace+"/"+pod.Name)) // the cache refuses pods without one
	}
	return found, nil
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
