#!/bin/bash
# Turns the Debian userland into a kind node. Runs inside a container of it; what it leaves is committed as the image.
#
# The same steps as images/base/Dockerfile and `kind build node-image` of kind's own sources, with containerd, runc and the
# CNI plugins from Debian, and with what a machine without CAP_SYS_RESOURCE cannot grant left out of the units.
#
# Reads below /run/build: kind/ (images/base/files of kind's module), node/ (this folder), bin/ (kubelet, kubeadm,
# kubectl), manifests/ (default-cni.yaml, default-storage.yaml), images.tar (preloaded). Environment: KUBERNETES_VERSION,
# PAUSE_IMAGE.
set -euo pipefail

in=/run/build
began=$SECONDS
step() { echo "$((SECONDS - began))s $*"; }

step "packages"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --quiet --quiet --yes --no-install-recommends containerd containernetworking-plugins runc >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/* /usr/share/doc/* /usr/share/man/*

step "kind's files"
cp --recursive --no-preserve=mode "$in/kind/." /
chmod 0755 /usr/local/bin/* /kind /kind/bin /kind/bin/*
install -D --mode=0755 "$in/node/oci-runtime" /usr/local/sbin/runc
install --mode=0755 "$in"/bin/* /usr/bin/
ln --symbolic /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2 /usr/local/bin/
mkdir -p /opt/cni/bin /etc/containerd/certs.d /etc/kubernetes/manifests
for plugin in bandwidth bridge host-local loopback portmap ptp; do
  mv "/usr/lib/cni/$plugin" /opt/cni/bin/
done
rm -rf /usr/lib/cni /usr/bin/containerd-stress /usr/bin/containerd-shim /usr/bin/containerd-shim-runc-v1

step "units"
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
  /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/* \
  /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
echo "ReadKMsg=no" >>/etc/systemd/journald.conf
sed -i -e '/^OOMScoreAdjust=/d' -e '/^Limit[A-Z]*=infinity/d' /etc/systemd/system/containerd.service
systemctl enable --quiet containerd.service kubelet.service undo-mount-hacks.service
systemctl mask --quiet systemd-binfmt.service
echo -n "$KUBERNETES_VERSION" >/kind/version
install -D --mode=0644 --target-directory=/kind/manifests "$in"/manifests/default-*.yaml

step "containerd"
ctr oci spec |
  jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
    >/etc/containerd/cri-base.json
config=/etc/containerd/config.toml
# Ports below 1024 and ping need no privilege in a pod: the default of the containerd that kind's own images have.
sed -i -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' \
  -e "s|sandbox_image = .*|sandbox_image = \"$PAUSE_IMAGE\"\n  enable_unprivileged_ports = true\n  enable_unprivileged_icmp = true|" $config
for line in "restrict_oom_score_adj = true" "sandbox_image = \"$PAUSE_IMAGE\"" "enable_unprivileged_ports = true"; do
  grep --quiet --fixed-strings "$line" $config
done
cat >>$config <<'X'

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
X

step "images"
containerd >/run/containerd.log 2>&1 &
pid=$!
for _ in {1..100}; do
  if ctr version >/dev/null 2>&1; then break; fi
  if ! kill -0 $pid; then break; fi
  sleep 0.1 # polling the socket: containerd says nothing when it is ready
done
if ! ctr --namespace k8s.io images import --all-platforms --no-unpack --digests "$in/images.tar"; then
  tail -n 20 /run/containerd.log
  exit 1
fi
kill $pid
wait $pid
rm -rf /tmp/*
step "done"
