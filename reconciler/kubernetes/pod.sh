# What a container of a pod of reconciler runs: node.sh in the node's own /, with the answer as termination message. Its
# forms stand in docs/reference/node-protocol.md, "Pods". Needs sh, chroot, cat, sleep and base64 of the image; all other
# programs are the node's. $BOOTSTRAP starts node.sh; files of the request stand in /request.
#
#   pod.sh look VERB LENGTH SHA256 [REQUEST]   an answer of any length; REQUEST: program and payload, in base64
#   pod.sh write VERB LENGTH SHA256 [wait]     a receipt, or a hook's answer; wait: until the container confirm runs
#   pod.sh confirm SECONDS LENGTH SHA256       waits for an order to confirm, and looks afterwards

message=/dev/termination-log
order=/order/confirm
waiting=/shared/waiting

on_node() {
    chroot /host sh -c "$BOOTSTRAP" node.sh 1 "$@"
}

# Sets $packed: the answer, gzipped and in base64 on one line.
pack() {
    packed=$(printf '%s\n' "$1" | chroot /host gzip -c | chroot /host base64 | chroot /host tr -d '\n')
}

# An answer that is too long for the message is the pod's log, and the message proves it.
look() {
    if [ -n "${4-}" ]; then
        answer=$(printf %s "$4" | base64 -d | on_node "$1" "$2" "$3") || exit
    else
        answer=$(cat /request/program /request/payload | on_node "$1" "$2" "$3") || exit
    fi
    pack "$answer"
    if [ "${#packed}" -le 4000 ]; then
        printf 'gzip %s' "$packed" >"$message"
    else
        printf '%s\n' "$packed"
        digest=$(printf %s "$packed" | chroot /host sha256sum)
        printf 'log %s' "${digest%% *}" >"$message"
    fi
}

# Nothing is written before somebody is there to take the confirmation.
write() {
    [ -z "${4-}" ] || until [ -e "$waiting" ]; do sleep 1; done
    cat /request/program /request/payload | on_node "$1" "$2" "$3" >"$message"
}

# The order is an annotation of the pod: LENGTH SHA256 PAYLOAD. Without one in time, the look undoes what nobody confirmed,
# also where the node's own timer is gone. What the look saw is told where there is room for it.
confirm() {
    : >"$waiting"
    left=$1 answer=''
    until [ -s "$order" ] || [ "$left" -le 0 ]; do
        sleep 1
        left=$((left - 1))
    done
    if [ -s "$order" ]; then
        read -r length digest payload <"$order" || :
        answer=$({ cat /request/program; printf %s "$payload" | base64 -d; } | on_node confirm "$length" "$digest") || exit
    fi
    seen=$(cat /request/program /request/look | on_node observe "$2" "$3") && pack "$seen" || packed=''
    [ $((${#answer} + ${#packed})) -le 4000 ] || packed=''
    printf '%s\n%s' "$answer" "${packed:+gzip $packed}" >"$message"
}

"$@"
