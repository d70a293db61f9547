"""The words of which volumes are made."""

from __future__ import annotations

from typing import Final

EBS: Final = "ebs.csi.aws.com"
GCE: Final = "pd.csi.storage.gke.io"
DRIVERS: Final = (EBS, GCE, "csi.example.com", "disk.csi.azure.com", "cinder.csi.openstack.org", "pxd.portworx.com")
ZONE_KEYS: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
REGION_KEYS: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
CSI_ZONES: Final = ("topology.ebs.csi.aws.com/zone", "topology.gke.io/zone", "topology.cinder.csi.openstack.org/zone")
ZONES: Final = ("eu-west-a", "eu-west-b", "us-east-a")
CLASSES: Final = ("wait", "local", "roomy", "allowed", "old", "now", "no-mode", "gone")
PLUGINS: Final = ("aws-ebs", "gce-pd", "azure-disk", "cinder", "portworx-volume")
MODES: Final = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
MIB: Final = 2**20
