#!/usr/bin/env bash
# A SLURM of this one machine for the tests, from Debian's packages: slurm_one_node.sh up | down. Needs root.
# `up` prints the line of shell that leads to it, export SLURM_CONF=..., and fails where it cannot be had.
set -euo pipefail
base=${SLURM_ONE_NODE:-/tmp/slurm-of-reldrop}
conf=$base/slurm.conf
socket=$base/munge.socket
port=${SLURM_ONE_NODE_PORT:-36817}

up() {
  [ "$(id -u)" = 0 ] || fail "needs root"
  install_packages
  mkdir -p "$base/state" "$base/spool"
  chmod 755 "$base"
  configure
  export SLURM_CONF=$conf
  start munged munged --foreground --socket="$socket" --key-file="$base/munge.key" --pid-file="$base/munged.own.pid" \
    --log-file="$base/munged.log" --seed-file="$base/munge.seed"
  wait_for munge --socket="$socket" --no-input
  start slurmctld slurmctld -D
  wait_for scontrol ping
  start slurmd slurmd -D -N "$(hostname -s)"
  wait_for node_is_idle
  echo "export SLURM_CONF=$conf"
}

down() {
  export SLURM_CONF=$conf
  if alive slurmctld && timeout 10 scontrol ping >/dev/null; then
    scancel --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
    scancel --user="$(id -un)" || true
    for _ in $(seq 100); do [ -z "$(squeue --noheader)" ] && break; sleep 0.2; done
  fi
  for name in slurmd slurmctld munged; do
    alive $name || continue
    kill "$(cat "$base/$name.pid")"
    for _ in $(seq 100); do alive $name || break; sleep 0.1; done
  done
  rm -rf "$base"
}

install_packages() {
  local commands=(munged slurmctld slurmd sbatch) policy=/usr/sbin/policy-rc.d
  command -v "${commands[@]}" >/dev/null && [ "$(command -v "${commands[@]}" | wc -l)" = 4 ] && return
  command -v apt-get >/dev/null || fail "needs apt-get"
  # The packages would start services of their own.
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; trap "rm -f $policy" EXIT; fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -q update && apt-get -q install -y --no-install-recommends munge slurmctld slurmd slurm-client; } >&2 ||
    fail "the packages cannot be installed"
}

configure() {
  [ -s "$base/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$base/munge.key")
  chmod 400 "$base/munge.key"
  # No cgroups: in a container they may be out of reach, and slurmd of SLURM 22.05 insists on the name of a plugin.
  echo "CgroupPlugin=cgroup/v1" >"$base/cgroup.conf"
  # Requeued jobs wait for cred_expire. More cores than there are let jobs overlap that mostly sleep.
  cat >"$conf" <<CONF
ClusterName=reldrop
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$base/state
SlurmdSpoolDir=$base/spool
SlurmctldPidFile=$base/slurmctld.own.pid
SlurmdPidFile=$base/slurmd.own.pid
SlurmctldLogFile=$base/slurmctld.log
SlurmdLogFile=$base/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
PropagateResourceLimits=NONE
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=6 State=UNKNOWN
PartitionName=main Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP
CONF
}

start() { # NAME COMMAND...
  local name=$1
  shift
  alive "$name" && return
  setsid nohup "$@" </dev/null >>"$base/$name.out" 2>&1 &
  echo $! >"$base/$name.pid"
}

alive() { # NAME: whether the process that was started under it still runs; Debian's binaries are called NAME-wlm
  local pid
  pid=$(cat "$base/$1.pid" 2>/dev/null) && [[ $(basename "$(readlink "/proc/$pid/exe")") = $1* ]]
}

wait_for() { # COMMAND..., for half a minute
  local end=$((SECONDS + 30))
  until "$@" >"$base/wait.out" 2>&1; do
    if [ $SECONDS -ge $end ]; then
      tail -n 5 "$base"/*.out "$base"/*.log >&2
      fail "no answer to: $*"
    fi
    sleep 0.2
  done
}

node_is_idle() { sinfo --noheader --format=%T | grep -Eqx 'idle|mixed|allocated'; }

fail() {
  echo "slurm_one_node.sh: $*" >&2
  exit 1
}

case ${1:-} in
up | down) "$1" ;;
*) fail "up or down?" ;;
esac
