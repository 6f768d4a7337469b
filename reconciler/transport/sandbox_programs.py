"""Programs and files that sandbox nodes are made of, as text; `@CONTROL@`, `@ETC@` and `@NAME@` are filled in.

Values only. The fakes start few programs of their own, so that what a node costs is node.sh and not they. The fake
systemctl and journalctl behave as RUNTIME facts were measured on CRI-O: `systemctl reload` returns 0 even when the
reload failed, and only the log says "Unable to reload configuration".
"""

from __future__ import annotations

SYSTEMCTL = """#!/bin/sh
# Fake of a sandbox node: logs what it is asked, and fails as told by the files of its control directory.
control=@CONTROL@
how=ok delay= active=active refuse= started=@1000 loaded= restart=ok
[ ! -f "$control/active" ] || read -r active <"$control/active"
[ ! -f "$control/reload" ] || read -r how <"$control/reload"
[ ! -f "$control/restart" ] || read -r restart <"$control/restart"
[ ! -f "$control/delay" ] || read -r delay <"$control/delay"
[ ! -f "$control/refuse" ] || refuse=$(cat "$control/refuse")
case $1 in
    is-active)
        printf '%s\\n' "$active"
        [ "$active" = active ]
        exit
        ;;
    show)
        [ ! -f "$control/started" ] || read -r started <"$control/started"
        [ ! -f "$control/loaded" ] || read -r loaded <"$control/loaded"
        printf 'ActiveState=%s\\n' "$active"
        printf 'ActiveEnterTimestamp=%s\\n' "$started"
        [ -z "$loaded" ] ||
            printf 'ExecReload={ path=/bin/kill ; start_time=[%s] ; code=exited ; status=0 }\\n' "$loaded"
        exit 0
        ;;
    daemon-reload)
        printf '%s\\n' "$*" >>"$control/actions"
        exit 0
        ;;
    restart)
        printf '%s\\n' "$*" >>"$control/actions"
        [ -z "$delay" ] || sleep "$delay"
        [ "$restart" != fails-once ] || { rm "$control/restart"; exit 1; }
        if [ -n "$refuse" ] && grep -qF -- "$refuse" @ETC@/containers/registries.conf 2>/dev/null; then
            printf 'failed\\n' >"$control/active"
            exit 1
        fi
        printf 'active\\n' >"$control/active"
        date +@%s >"$control/started"
        exit 0
        ;;
    reload)
        printf '%s\\n' "$*" >>"$control/actions"
        [ -z "$delay" ] || sleep "$delay"
        ;;
    *) exit 0 ;;
esac
[ -z "$refuse" ] || ! grep -qF -- "$refuse" @ETC@/containers/registries.conf 2>/dev/null || how=unable
case $how in
    ok) printf 'Applied new registry configuration: {}\\n' >>"$control/journal" ;;
    unable) printf 'Unable to reload configuration: "registries.conf" is not valid\\n' >>"$control/journal" ;;
    fails) exit 1 ;;
    kills) printf 'failed\\n' >"$control/active" ;;
esac
date +@%s >"$control/loaded"
exit 0
"""

JOURNALCTL = """#!/bin/sh
# Fake of a sandbox node: the journal is a file, a cursor is a number of lines.
journal=@CONTROL@/journal
[ -f "$journal" ] || : >"$journal"
from=0 lines=0 show=line
for word; do
    case $word in
        --show-cursor) show=cursor ;;
        --after-cursor=*) from=${word#*=} ;;
    esac
done
while IFS= read -r line; do
    lines=$((lines + 1))
    [ $show = cursor ] || [ $lines -le "$from" ] || printf '%s\\n' "$line"
done <"$journal"
[ $show = line ] || printf -- '-- cursor: %s\\n' $lines
"""

CLIENT = """#!/bin/sh
# Fake of a sandbox node, as crictl and as podman: lists what the files of its control directory hold; a pull fails
# while one of them says why.
control=@CONTROL@
if [ "$1" = pull ]; then
    for image; do :; done
    printf '%s %s\\n' "${0##*/}" "$*" >>"$control/pulls"
    [ ! -s "$control/pull" ] || { printf 'pulling %s: ' "$image" >&2; cat "$control/pull" >&2; exit 1; }
    exit 0
fi
case $1:${0##*/} in
    ps:crictl) empty='{"containers":[]}' ;;
    images:crictl) empty='{"images":[]}' ;;
    *) empty='[]' ;;
esac
[ ! -f "$control/${0##*/}-$1" ] || exec cat "$control/${0##*/}-$1"
printf '%s\\n' "$empty"
"""

CRIO = """#!/bin/sh
# Fake of a sandbox node.
if [ "$1" != config ]; then
    echo 'crio version 1.31.13'
else
    while IFS= read -r line; do printf '%s\\n' "$line"; done <@CONTROL@/crio-config
fi
"""

SSHD_CONFIG = """ListenAddress {address}
Port {port}
HostKey /run/sandbox/host_key
AuthorizedKeysFile /run/sandbox/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200
MaxSessions 50
PrintMotd no
Subsystem sftp internal-sftp
"""

INIT = """# First process of a sandbox node. Only this node's namespaces are changed.
set -e
control=@CONTROL@
mount --make-rprivate /
hostname @NAME@
mount -t tmpfs -o size=1m,mode=755 tmpfs /mnt
mkdir /mnt/etc /mnt/var /mnt/control
mount --bind "$control" /mnt/control
mount -t tmpfs -o size=4m tmpfs /mnt/etc
mount -t tmpfs -o size=8m tmpfs /mnt/var
mkdir /mnt/etc/upper /mnt/etc/work /mnt/var/upper /mnt/var/work
chmod 755 /mnt/etc/upper /mnt/var/upper
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/etc/upper,workdir=/mnt/etc/work /etc
mount -t overlay overlay -o lowerdir=/var,upperdir=/mnt/var/upper,workdir=/mnt/var/work /var
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/sandbox /run/lock
mount --bind /mnt/control /run/sandbox
mount -t tmpfs -o mode=700 tmpfs /root
mount -t tmpfs -o mode=755 tmpfs /home
mount -t tmpfs -o mode=755 tmpfs /usr/local/bin
cp /run/sandbox/bin/* /usr/local/bin/
mount --bind /run/sandbox/boot_id /proc/sys/kernel/random/boot_id
rm -rf /etc/containers /etc/docker /etc/crio /etc/machine-config-daemon /var/lib/reconciler /etc/os-release
mkdir -p /etc/containers /home/core
cp /run/sandbox/machine_id /etc/machine-id
cp /run/sandbox/os-release /etc/os-release
printf 'core:x:4242:4242::/home/core:/bin/sh\\n' >>/etc/passwd
printf 'core:x:4242:\\n' >>/etc/group
printf 'core:*:19000:0:99999:7:::\\n' >>/etc/shadow
chown 4242:4242 /home/core
set +e
while :; do
    if [ -e /run/sandbox/stopped ]; then
        sleep 0.02
    else
        env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$(command -v sshd || echo /usr/sbin/sshd)" \\
            -D -e -f /run/sandbox/sshd_config
        [ $? != 255 ] || exit 1 # cannot start; killed by `stop` it is something else
    fi
done
"""
