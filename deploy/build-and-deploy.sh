#!/usr/bin/env bash
# Builds the image and deploys it with deploy/k8s.yaml. Stops at the first step that fails and says which one.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
Usage: deploy/build-and-deploy.sh minikube
       deploy/build-and-deploy.sh kind [CLUSTER]
       deploy/build-and-deploy.sh registry IMAGE

  minikube   build inside minikube's Docker, so that its node has the image
  kind       build here and load the image into the cluster's nodes (CLUSTER: its name, "kind" by default)
  registry   build here, push to IMAGE (e.g. registry.example.com/team/carbon-scheduler:1.0), deploy from there

It deploys to kubectl's current context. A key in ELECTRICITY_MAPS_API_KEY is put into the cluster's Secret; without it
a key that is already there stays. Run it again after a change: the running scheduler is replaced.

Example: ELECTRICITY_MAPS_API_KEY=... deploy/build-and-deploy.sh minikube
USAGE
}

number=0 current=
step() { # step TITLE COMMAND...: says what it does, then does it
  number=$((number + 1)) current=$1
  shift
  echo "==> step $number: $current" >&2
  "$@"
}
trap 'code=$?; if [ $code -ne 0 ] && [ -n "$current" ]; then
  echo "build-and-deploy.sh: step $number ($current) failed with exit code $code; the steps after it were not begun." >&2
fi' EXIT

need() {
  local tool missing=
  for tool; do command -v "$tool" >/dev/null || missing+=" $tool"; done
  [ -z "$missing" ] || { echo "not on PATH:$missing" >&2; return 1; }
}

use_minikube_docker() {
  local settings
  settings=$(minikube docker-env --shell bash) # apart from eval, which would hide its failure
  eval "$settings"
}

running= secret=
look_at_cluster() {
  running=$(kubectl get deployment carbon-aware-scheduler --namespace kube-system --ignore-not-found --output name)
  secret=$(kubectl get secret carbon-aware-scheduler --namespace kube-system --ignore-not-found --output name)
}

apply() {
  # The Secret in the file is empty: it is for the first time only, and may not replace a key that somebody has set.
  local selector=()
  [ -z "$secret" ] || selector=(--selector 'app.kubernetes.io/component!=api-key')
  sed "s|^\( *image:\) carbon-scheduler\$|\1 $image|" deploy/k8s.yaml | kubectl apply "${selector[@]}" --filename -
}

set_key() { # by standard input: a command line can be seen by every user of the machine
  printf %s "$ELECTRICITY_MAPS_API_KEY" |
    kubectl create secret generic carbon-aware-scheduler --namespace kube-system --from-file=api-key=/dev/stdin \
      --dry-run=client --output yaml |
    kubectl label --local --filename - --output yaml \
      app.kubernetes.io/name=carbon-aware-scheduler app.kubernetes.io/component=api-key |
    kubectl apply --filename -
}

image=carbon-scheduler
where=${1:-}
case "$where" in
  -h | --help) usage; exit 0 ;;
  minikube) [ $# -eq 1 ] || { usage >&2; exit 2; } ;;
  kind) [ $# -le 2 ] || { usage >&2; exit 2; } ;;
  registry) [ $# -eq 2 ] || { usage >&2; exit 2; }; image=$2 ;;
  *) usage >&2; exit 2 ;;
esac
[[ $image =~ ^[A-Za-z0-9./:@_-]+$ ]] || { echo "not the name of an image: $image" >&2; exit 2; }

tools=(docker kubectl)
[ "$where" = registry ] || tools+=("$where")
step "find the tools" need "${tools[@]}"
step "ask the cluster what is there" look_at_cluster
[ "$where" != minikube ] || step "use minikube's Docker" use_minikube_docker
step "build the image $image" docker build --tag "$image" --file deploy/Dockerfile .
case "$where" in
  kind) step "load the image into kind" kind load docker-image "$image" --name "${2:-kind}" ;;
  registry) step "push the image" docker push "$image" ;;
esac
step "apply deploy/k8s.yaml" apply
[ -z "${ELECTRICITY_MAPS_API_KEY:-}" ] || step "set the key" set_key
if [ -n "$running" ]; then # it sees neither a new image of the same name nor a new key by itself
  step "restart the scheduler" kubectl rollout restart deployment carbon-aware-scheduler --namespace kube-system
fi
step "wait until it is ready" \
  kubectl rollout status deployment carbon-aware-scheduler --namespace kube-system --timeout 180s
current=
cat >&2 <<'DONE'
Deployed. See it at work:
  kubectl logs -n kube-system deployment/carbon-aware-scheduler --tail=20
  kubectl run test-pod --image=nginx --restart=Never --overrides='{"spec":{"schedulerName":"carbon-aware-scheduler"}}'
DONE
