# node.sh: shows and changes the registry configuration of one host. Form, answers and state directory:
# docs/reference/node-protocol.md.
#
#   sh node.sh 1 VERB LENGTH SHA256 [ROOT]   a request: payload on standard input, one JSON line out; the verbs are
#                                            observe, images, apply, revert, confirm, release, hook
#   sh node.sh 1 reside [ROOT]               one request after the other, as text on standard input; all but hook
#   sh node.sh status|revert|baseline|hold REASON|resume|confirm|release [--restore]   for an operator on the host
#   sh node.sh timer STEP SECONDS            started by apply: undoes the change of STEP unless it is confirmed
#
# POSIX sh (dash, busybox ash, bash); needs coreutils, gzip and flock. Up to the last line there are only functions,
# so a copy cut short by a lost connection does nothing. No here-documents: some shells put them on disk.
# The working directory stands for /: every path is written with a dot before it. Words are split at blanks only
# (IFS), file names are expanded only between `set +f` and `set -f`. Results are returned in global variables.

main() {
    LC_ALL=C
    export LC_ALL
    umask 077
    set -fu
    newline='
' tab='	'
    IFS=' '
    state=./var/lib/reconciler
    journal=$state/journal
    pending=$state/pending
    by_operator=no bodies=piped told=''
    forget_request
    case ${1-} in
        status | revert | baseline | hold | resume | confirm | release | timer) operator "$@" ;;
        *) request "$@" ;;
    esac
}

# Sets every variable of a request and its outcome to nothing.
forget_request() {
    log_id='' log_head='' epoch=0 fence=0 step='' runtime='' start='' actions='' paths='' wanted='' known=''
    result='' reason='' detail='' action='' loaded=null healthy_before=true unit='' active=''
    manifest='' written='' restored='' surveyed='' new_plan='' old_plan='' foreseen='' foreseen_manifest=''
    phase='' checks='' failed_check='' confirm_within=0 confirm_by=0 always=no release='' also=''
    claimed=no fresh='' command='' environment='' hook_seconds=''
}

# --- Requests --------------------------------------------------------------------------------------------------------

request() {
    protocol=${1-} verb=${2-} length=${3-} digest=${4-} root=${5-}
    [ "$protocol" = 1 ] || refuse protocol "this program speaks protocol 1, not '$protocol'"
    case $verb in
        observe | images | apply | revert | confirm | release | hook) ;;
        reside) reside "$length" ;;
        *) refuse unknown-verb "no verb '$verb' in protocol 1" ;;
    esac
    enter_root
    read_payload
    if only_looks; then
        serve
    else
        [ "$verb" = hook ] || trap '' PIPE HUP INT TERM # of this process, too, which waits for the last of the pipe
        # the bodies stay in the pipe until they are staged
        printf '%s\n' "$packed" | base64 -d 2>/dev/null | gzip -dc 2>/dev/null | { read_header && serve; }
    fi
}

# Answers the request whose header was read; the bodies of the files are on standard input, or in $body_NUMBER.
serve() {
    [ "$verb" != hook ] || hook # touches nothing of ours: no lock, no state directory
    trap '' PIPE HUP INT TERM
    read_owner
    if only_looks; then
        [ ! -d "$state" ] || lock || refuse "$reason" "$detail"
    elif managed_by_mco; then
        parse_header "$header" || refuse "$reason" "$detail"
        decline refused mco 'the Machine Config Operator manages this node'
    elif [ -d "$state" ] || ! only_ends; then
        make_state && lock || refuse "$reason" "$detail"
    fi
    recover
    take_request
    "$verb"
}

# reside ROOT: answers requests for as long as the input lasts, each in a process of its own, so that nothing of one is
# left for the next but what the runtime told of itself: a line before an answer. An answer goes out whole, behind its
# request's number; a request without one ends this program with its status.
reside() {
    root=$1 bodies=texts
    cd / # the directory of the login may be one that is to be unmounted
    while read_text; do
        line=$(answer_text </dev/null) || exit
        IFS=$newline
        set -- $line
        IFS=' '
        [ $# -lt 2 ] || { told=$1 && shift; }
        printf '%s %s\n' "$number" "${1-}" || exit
    done
    exit 0
}

# Reads `NUMBER VERB`, the lines of a header and an empty line; behind each line of a file the lines of its body, after a
# bar each. Fails at the end of the input, also within a request.
read_text() {
    header='' place=0 body=''
    read -r number verb || return 1
    while IFS= read -r line; do
        case $line in
            '|'*) body=$body${line#?}$newline ;;
            '')
                keep_body
                header="$header${newline}end"
                return 0
                ;;
            *)
                header=$header$line$newline
                case $line in
                    'file '* | 'same '* | 'restore '* | 'remove '*) keep_body && place=$((place + 1)) ;;
                esac
                ;;
        esac
    done
    return 1
}

# The lines that were read since are the body of the last path, each with a line break; the last one has none.
keep_body() {
    eval "body_$place=\${body%?}"
    body=''
}

# put_body NUMBER FILE
put_body() {
    eval "put \"\$2\" \"\${body_$1-}\""
}

answer_text() {
    case $verb in
        observe | images | apply | revert | confirm | release) ;;
        *) refuse unknown-verb "'$verb' is not asked for as text" ;;
    esac
    enter_root
    serve
}

# Verbs that end something of ours: where there is nothing, no state directory is made for them.
only_ends() {
    [ "$verb" = confirm ] || [ "$verb" = release ]
}

# Sets the variables of the request, also after another step's were in them.
take_request() {
    forget_request
    parse_header "$header" || refuse "$reason" "$detail"
}

# Verbs that change nothing, and therefore need no step and no state directory.
only_looks() {
    [ "$verb" = observe ] || [ "$verb" = images ]
}

# refuse REASON DETAIL: the answer to a request that cannot be taken at all.
refuse() {
    [ "$by_operator" = no ] || fail "$1: $2"
    quote "$2"
    printf '{"protocol":1,"error":"%s","detail":"%s"}\n' "$1" "$quoted"
    exit 0
}

# Makes the root the working directory and finds the programs that are used.
enter_root() {
    case $root in
        '' | /*) ;;
        *) refuse root "the root '$root' is no absolute path" ;;
    esac
    for program in base64 cat chmod chown cp date dd env flock gzip head id ls mkdir mv rm rmdir sha256sum sleep sort stat \
        sync tail timeout tr; do
        command -v "$program" >/dev/null 2>&1 || refuse missing-program "this host has no $program"
    done
    find_user
    if [ -z "$root" ]; then
        cd / || refuse root 'cannot enter /'
        [ "$uid" = 0 ] || refuse not-root 'needs root on the host; set spec.become: sudo'
    else
        cd -P "$root" 2>/dev/null || refuse root "no directory '$root'"
        root=$PWD
        [ "$root" != / ] || refuse root '/ cannot be a root'
        PATH=$root/usr/local/bin:$PATH
    fi
    find_program systemctl && systemctl=$program_path
    find_program journalctl && journalctl=$program_path
}

# Sets $uid to the user that this program acts as.
find_user() {
    uid=''
    [ ! -r /proc/self/status ] || while IFS=$tab read -r key real effective rest; do
        [ "$key" != Uid: ] || { uid=$effective; break; }
    done </proc/self/status
    is_number "$uid" || uid=$(id -u)
}

# find_program NAME: sets $program_path. Below a root only that root's own programs count, never the host's.
systemctl='' journalctl=''
find_program() {
    if [ -n "$root" ]; then
        program_path=$root/usr/local/bin/$1
        [ -x "$program_path" ]
    else
        is_on_path "$1"
    fi
}

# is_on_path NAME: sets $program_path, without the process that the output of `command -v` would take.
is_on_path() {
    IFS=:
    for program_path in $PATH; do
        program_path=$program_path/$1
        [ ! -f "$program_path" ] || [ ! -x "$program_path" ] || { IFS=' '; return 0; }
    done
    IFS=' '
    return 1
}

# Reads the whole payload, up to the end of the input, and sets $packed (base64 of the gzip); for looks $header (its
# header lines, then `end`): where nothing is written, gzip's own checksum says that it came whole.
read_payload() {
    case $length in
        '' | *[!0-9]* | 0?* | ?????????*) refuse payload "payload length '$length'" ;;
    esac
    if only_looks; then
        header=$(gzip -dc 2>/dev/null && printf end) || refuse payload 'the payload did not arrive whole'
        case $header in
            *"$newline${newline}end") ;;
            *) header='' ;;
        esac
        return 0
    fi
    packed=$(base64)
    seen=$(printf '%s\n' "$packed" | base64 -d 2>/dev/null | sha256sum)
    [ "${seen%% *}" = "$digest" ] || refuse payload 'the payload did not arrive whole'
}

# Sets $header to the header lines, then `end`, and reads not a byte more.
read_header() {
    header=''
    while IFS= read -r line; do
        [ -n "$line" ] || { header=${header}end; return 0; }
        header=$header$line$newline
    done
}

# parse_header LINES: sets the variables of a request, or $reason and $detail.
parse_header() {
    reason=payload detail='the header has no end' ended=no
    IFS=$newline
    for line in $1; do
        IFS=' '
        [ "$ended" = no ] && header_line $line || { detail="header line '$line'"; return 1; }
    done
    IFS=' '
    [ "$ended" = yes ] || return 1
    detail='log_id, step or runtime is missing'
    [ -n "$log_id" ] || return 1
    [ -n "$runtime" ] || [ "$verb" = hook ] || return 1
    [ -n "$step" ] || only_looks || return 1
    detail='what the verb needs is missing'
    case $verb in
        hook) [ -n "$command" ] && [ -n "$hook_seconds" ] || return 1 ;;
        release) [ -n "$release" ] || return 1 ;;
    esac
    reason='' detail=''
}

header_line() {
    case $#:$1 in
        2:log_id) is_word "$2" && log_id=$2 ;;
        2:epoch) is_number "$2" && epoch=$2 ;;
        2:fence) is_number "$2" && fence=$2 ;;
        3:head) is_number "$2" && is_digest "$3" && log_head="$2 $3" ;;
        2:step) is_word "$2" && step=$2 ;;
        2:runtime) { [ "$2" = crio ] || [ "$2" = podman ]; } && runtime=$2 ;;
        2:start) is_digest "$2" && start=$2 ;;
        2:action) is_action "$2" && actions="$actions${actions:+ }$2" ;;
        2:act) [ "$2" = always ] && always=yes ;;
        2:also) [ "$verb" = observe ] && [ "$2" = images ] && also=images ;;
        2:confirm) is_number "$2" && confirm_within=$2 ;;
        2:baseline) { [ "$2" = keep ] || [ "$2" = restore ]; } && release=$2 ;;
        *:check) shift && is_check "$@" && checks="$checks$*$newline" ;;
        *:command) shift && are_packed "$@" && command=$* ;;
        3:environment) is_name "$2" && are_packed "$3" && environment="$environment$2 $3$newline" ;;
        2:timeout) is_number "$2" && [ "$2" -gt 0 ] && hook_seconds=$2 ;;
        3:observe) { [ "$2" = absent ] || [ "$2" = - ] || is_digest "$2"; } && want "$3" "$2" ;;
        6:file) is_mode "$2" && is_digest "$3" && is_number "$4" && is_number "$5" && want "$6" "file $2 $3 $5" ;;
        4:same) [ -n "$start" ] && is_mode "$2" && is_digest "$3" && want "$4" "file $2 $3 0" ;;
        2:restore | 2:remove) want "$2" "$1" ;;
        1:end) ended=yes ;;
        *) return 1 ;;
    esac
}

# want PATH WHAT: one more managed path; $wanted keeps `PATH WHAT` lines.
want() {
    is_managed "$1" || { [ "$verb" = observe ] && is_effective "$1"; } || { reason=path; return 1; }
    paths="$paths${paths:+ }$1"
    wanted="$wanted$1 $2$newline"
}

is_managed() {
    is_path "$1" || return 1
    case $1 in
        /etc/containers/?* | /etc/docker/certs.d/?* | /etc/crio/policies/?*) return 0 ;;
    esac
    return 1
}

is_path() {
    case $1 in
        */../* | */.. | */./* | */. | *//* | */ | *.key | *.reconciler | *[!]A-Za-z0-9/._:@%+,=~[-]*) return 1 ;;
    esac
    [ "${#1}" -le 512 ]
}

# What else the runtime reads, and may be looked at: see list_effective.
is_effective() {
    is_path "$1" || return 1
    case $1 in
        /etc/crio/crio.conf | /etc/crio/crio.conf.d/?* | /etc/sysconfig/crio | /etc/default/crio) return 0 ;;
        /etc/systemd/system/crio.service.d/?*.conf) return 0 ;;
    esac
    find_homes
    IFS=$newline
    for home in $homes; do
        IFS=' '
        case $1 in
            "${home#.}"/.config/containers/?*) return 0 ;;
        esac
    done
    IFS=' '
    return 1
}

is_action() {
    case $1 in
        daemon-reload) return 0 ;;
        reload:[!-]* | restart:[!-]*) ;;
        *) return 1 ;;
    esac
    case ${1#*:} in
        *[!A-Za-z0-9:_.@-]*) return 1 ;;
        ?*.service | ?*.socket | ?*.target | ?*.path | ?*.timer | ?*.mount) ;;
        *) return 1 ;;
    esac
    [ "${#1}" -le 128 ]
}

# is_check NAME command :WORD… | is_check NAME image REFERENCE
is_check() {
    [ $# -ge 3 ] && is_word "$1" || return 1
    case $2 in
        command) shift 2 && are_packed "$@" ;;
        image) [ $# = 3 ] && is_reference "$3" ;;
        *) return 1 ;;
    esac
}

is_reference() {
    case $1 in
        [!A-Za-z0-9[]* | *[!]A-Za-z0-9._:@/[-]*) return 1 ;;
    esac
    [ "${#1}" -le 512 ]
}

is_name() {
    case $1 in
        '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) return 1 ;;
    esac
}

# are_packed :BASE64…: words of any bytes, each behind a colon, so that an empty one is one too.
are_packed() {
    [ $# -gt 0 ] || return 1
    for packed_word; do
        case $packed_word in
            :*[!A-Za-z0-9+/=]* | [!:]*) return 1 ;;
        esac
    done
}

# unpack_word :BASE64: sets $word, its line breaks at the end included.
unpack_word() {
    word=$(printf '%s\n' "${1#:}" | base64 -d 2>/dev/null && printf .) && word=${word%.}
}

is_word() {
    case $1 in
        [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) return 1 ;;
    esac
    [ "${#1}" -le 64 ]
}

is_number() {
    case $1 in
        '' | *[!0-9]* | 0?* | ?????????????????*) return 1 ;;
    esac
}

is_digest() {
    case $1 in
        *[!0-9a-f]*) return 1 ;;
    esac
    [ "${#1}" = 64 ]
}

is_mode() {
    case $1 in
        0[0-7][0-7][0-7]) ;;
        *) return 1 ;;
    esac
}

# --- observe ---------------------------------------------------------------------------------------------------------

observe() {
    survey $paths || refuse unreadable "$detail"
    recall
    runtime_facts
    machine_facts
    system_name
    read_owner
    waiting='' reverted=''
    ! read_pending || waiting=$pending_step
    [ -z "$owner_step" ] || ! is_receipt "$owner_step" '"reason":"unconfirmed"' || reverted=$owner_step
    list_present
    list_effective
    hold=''
    [ ! -f "$state/hold" ] || hold=$(head -n 1 "$state/hold")
    [ "$also" != images ] || list_images
    [ "$bodies" = piped ] || retell
    printf '{"protocol":1,"machine_id":"%s","boot_id":"%s"' "$machine_id" "$boot_id"
    quote "$os"
    printf ',"os":"%s"' "$quoted"
    quote "$runtime_version"
    printf ',"runtime_version":"%s","unit":"%s","active":"%s"' "$quoted" "$unit" "$active"
    stamp=null left=null
    if [ -n "$owner_log" ]; then
        json_stamp "$owner_log" "$owner_epoch" "$owner_fence" "$owner_step"
    else
        read_left
    fi
    printf ',"owner":%s,"released":%s' "$stamp" "$left"
    managed_by_mco && mco=true || mco=false
    quote "$hold"
    printf ',"mco":%s,"hold":"%s","present":"%s","effective":"%s"' "$mco" "$quoted" "$present" "$effective"
    printf ',"pending":"%s","reverted":"%s","loaded_since":%s' "$waiting" "$reverted" "$since"
    print_files
    if [ "$also" = images ]; then
        printf ',"images":{'
        print_images
        printf '}'
    fi
    printf '}\n'
}

print_files() {
    printf ',"files":['
    separator='' rest=$wanted owners_asked=0
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        known=${rest%%"$newline"*} rest=${rest#*"$newline"}
        print_file "${known#* }" $line
    done
    IFS=' '
    printf ']'
}

# print_file KNOWN KIND SHA256 MODE UID GID SIZE MTIME PATH
print_file() {
    printf '%s{"path":"%s","kind":"%s"' "$separator" "$9" "$2"
    separator=','
    if [ "$2" = file ]; then
        printf ',"sha256":"%s","mode":"%s","uid":%s,"gid":%s,"size":%s,"mtime":%s' "$3" "$4" "$5" "$6" "$7" "$8"
        if [ "$1" != "$3" ]; then
            print_package "$9"
            [ "$7" -ge 1048576 ] || print_content "$9"
        fi
    fi
    printf '}'
}

# The package that a file belongs to; asked for the first 16 files only, since the databases are slow.
print_package() {
    owners_asked=$((owners_asked + 1)) package=''
    [ "$owners_asked" -le 16 ] || return 0
    if find_program rpm; then
        package=$(timeout -s KILL 20 "$program_path" -qf --qf '%{NAME}\n' "$1" 2>/dev/null </dev/null) || package=''
    elif find_program dpkg; then
        package=$(timeout -s KILL 20 "$program_path" -S "$1" 2>/dev/null </dev/null) || package=''
        package=${package%%:*}
    fi
    package=${package%%"$newline"*}
    [ -z "$package" ] || { quote "$package" && printf ',"package":"%s"' "$quoted"; }
}

# What is checked for a private key is what is sent: the file is read once.
print_content() {
    content=$(base64 <".$1" 2>/dev/null)
    { text=$(printf '%s\n' "$content" | base64 -d); } 2>/dev/null
    case $text in
        *'PRIVATE KEY'*) ;;
        *) unwrap "$content" && printf ',"content":"%s"' "$unwrapped" ;;
    esac
}

# unwrap TEXT: sets $unwrapped to the text without its line breaks.
unwrap() {
    IFS=$newline
    set -- $1
    IFS=''
    unwrapped="$*"
    IFS=' '
}

# Sets $present: base64 of every entry of certs.d and registries.conf.d that is not managed, each ended by NUL. Names only.
list_present() {
    set +f
    set -- ./etc/docker/certs.d/*/* ./etc/docker/certs.d/*/.[!.]* \
        ./etc/containers/registries.conf.d/* ./etc/containers/registries.conf.d/.[!.]*
    set -f
    for entry; do
        shift
        { [ -e "$entry" ] || [ -L "$entry" ]; } && is_foreign "${entry#.}" && set -- "$@" "${entry#.}"
    done
    present=''
    [ $# = 0 ] || present=$(printf '%s\0' "$@" | base64)
    unwrap "$present"
    present=$unwrapped
}

is_foreign() {
    case $1 in
        *.reconciler) return 1 ;;
    esac
    case " $paths " in
        *" $1 "*) return 1 ;;
    esac
}

# Sets $effective: base64 of `SHA256 PATH`, each ended by NUL, for every further file that the runtime would read; the
# word `unread` for private keys.
list_effective() {
    find_homes
    set +f
    set -- ./etc/containers/registries.conf ./etc/containers/policy.json ./etc/containers/registries.conf.d/*.conf \
        ./etc/containers/registries.conf.d/.[!.]*.conf ./etc/containers/registries.d/*.yaml \
        ./etc/containers/certs.d/*/* ./etc/crio/crio.conf ./etc/crio/crio.conf.d/* ./etc/crio/policies/*.json \
        ./etc/sysconfig/crio ./etc/default/crio ./etc/systemd/system/crio.service.d/*.conf
    IFS=$newline
    for home in $homes; do
        set -- "$@" "$home"/.config/containers/registries.conf "$home"/.config/containers/policy.json \
            "$home"/.config/containers/registries.conf.d/*.conf "$home"/.config/containers/registries.d/*.yaml \
            "$home"/.config/containers/certs.d/*/*
    done
    IFS=' '
    set -f
    for file; do
        shift
        [ ! -f "$file" ] || ! is_foreign "${file#.}" || set -- "$@" "$file"
    done
    effective=''
    [ $# = 0 ] || effective=$(print_sums "$@" | base64)
    unwrap "$effective"
    effective=$unwrapped
}

# Root's home and those of users whose services run without a login.
find_homes() {
    homes=./root
    [ -d ./var/lib/systemd/linger ] && [ -r ./etc/passwd ] || return 0
    while IFS=: read -r name password number group gecos home shell; do
        case $home in
            /?*) [ ! -e "./var/lib/systemd/linger/$name" ] || homes="$homes$newline.$home" ;;
        esac
    done <./etc/passwd
}

print_sums() {
    for file; do
        shift
        case $file in
            *.key) printf 'unread %s\0' "${file#.}" ;;
            *) set -- "$@" "$file" ;;
        esac
    done
    [ $# -gt 0 ] || return 0
    # not every sha256sum escapes a line break in a name: then one by one
    if is_one_line "$*" && sums=$(sha256sum "$@" 2>/dev/null); then
        for file; do
            sum=${sums%%"$newline"*} sums=${sums#*"$newline"}
            sum=${sum#\\}
            printf '%s %s\0' "${sum%% *}" "${file#.}"
        done
    else
        for file; do
            sum=$(sha256sum <"$file") 2>/dev/null || sum=unread
            printf '%s %s\0' "${sum%% *}" "${file#.}"
        done
    fi
}

is_one_line() {
    case $1 in
        *"$newline"*) return 1 ;;
    esac
}

managed_by_mco() {
    [ -e ./etc/machine-config-daemon/currentconfig ]
}

machine_facts() {
    machine_id='' boot_id=''
    [ ! -r ./etc/machine-id ] || read -r machine_id <./etc/machine-id || :
    boot_file=./proc/sys/kernel/random/boot_id
    [ -r "$boot_file" ] || boot_file=/proc/sys/kernel/random/boot_id
    [ ! -r "$boot_file" ] || read -r boot_id <"$boot_file" || :
    is_word "$machine_id" || machine_id=''
    is_word "$boot_id" || boot_id=''
}

system_name() {
    os=''
    [ -r ./etc/os-release ] || return 0
    while IFS= read -r line; do
        case $line in
            PRETTY_NAME=*) os=${line#PRETTY_NAME=} os=${os#[\"\']} os=${os%[\"\']} ;;
        esac
    done <./etc/os-release
}

# Not bounded here, as others are that may hang: what systemctl asks for it waits for no longer than sd-bus does, 25 s;
# what a runtime says of itself it reads from files.
runtime_facts() {
    unit_facts
    if [ -n "$started" ] && [ "$started" = "$told_start" ]; then
        runtime_version=$told_version
        return 0
    fi
    runtime_version='' told_pause='' told_settings=''
    if find_program "$runtime"; then
        runtime_version=$("$program_path" --version 2>/dev/null </dev/null)
        runtime_version=${runtime_version%%"$newline"*}
    fi
}

# What the runtime told of itself in answer to the requests before, as long as it has not been started anew: its version,
# and its pause image as long as its settings are the same, too.
recall() {
    told_start='' told_version='' told_pause='' told_settings=''
    IFS='|'
    set -- $told
    IFS=' '
    [ $# != 5 ] || told_start=$1 told_version=$2 told_pause=$3 told_settings=$4
}

# Tells it to those after this one. What holds a bar is not understood there, and asked again.
retell() {
    printf '%s|%s|%s|%s|.\n' "$started" "$runtime_version" "$told_pause" "$told_settings"
}

# Sets $unit and $active; both are empty where the runtime is no service or nobody can tell.
unit_state() {
    unit='' active=''
    [ "$runtime" = crio ] || return 0
    unit=crio.service
    [ -n "$systemctl" ] || return 0
    active=$("$systemctl" is-active "$unit" 2>/dev/null </dev/null)
    active=${active%%"$newline"*}
    [ -n "$active" ] && is_word "$active" || active=unknown
}

# Sets, with one question to systemd, what `unit_state` does, and $since to when the runtime began to run with what it
# last loaded: its start, or the start of the last reload command that succeeded, whichever is later; 0 where nobody can
# tell.
unit_facts() {
    unit='' active='' since=0 started=''
    [ "$runtime" = crio ] || return 0
    unit=crio.service
    [ -n "$systemctl" ] || return 0
    set -- show "$unit" -p ActiveState -p ActiveEnterTimestamp -p ExecReload
    said=$(TZ=UTC "$systemctl" "$@" --timestamp=unix 2>/dev/null </dev/null) ||
        said=$(TZ=UTC "$systemctl" "$@" 2>/dev/null </dev/null) || said=''
    IFS=$newline
    for line in $said; do
        IFS=' '
        case $line in
            ActiveState=*) active=${line#*=} ;;
            ActiveEnterTimestamp=*) started=${line#*=} && is_later "$started" ;;
            ExecReload=*' code=exited ; status=0'*)
                line=${line#*start_time=\[}
                is_later "${line%%\]*}"
                ;;
        esac
    done
    IFS=' '
    [ -n "$active" ] && is_word "$active" || active=unknown
}

# is_later @SECONDS | is_later 'DAY DATE TIME UTC': raises $since to it.
is_later() {
    case $1 in
        @*[!0-9]* | @) return 0 ;;
        @*) then=${1#@} ;;
        *' UTC')
            then=${1#* }
            then=$(date -u -d "${then% UTC}" +%s 2>/dev/null) || return 0
            ;;
        *) return 0 ;;
    esac
    [ "$then" -le "$since" ] || since=$then
}

is_healthy() {
    case $active in
        active | reloading | '') return 0 ;;
    esac
    return 1
}

# --- images ----------------------------------------------------------------------------------------------------------

# What the runtime's own client says, as it says it: JSON is for the other side to read. Ended containers count too:
# an init container's image is needed again at the next start.
images() {
    list_images
    printf '{"protocol":1,'
    print_images
    printf '}\n'
}

list_images() {
    source=crictl pause='' detail='' lists=''
    [ "$runtime" = crio ] || source=podman
    if ! find_program "$source"; then
        detail="this host has no $source"
    elif list_json ps -a && containers=$listed && list_json images; then
        unwrap "$(printf '{"containers":%s,"images":%s}\n' "$containers" "$listed" | gzip -c | base64)"
        lists=$unwrapped
    fi
    [ "$runtime" != crio ] || ! find_program crio || find_pause
}

print_images() {
    quote "$pause"
    printf '"source":"%s","pause":"%s"' "$source" "$quoted"
    quote "$detail"
    printf ',"detail":"%s","lists":"%s"' "$quoted" "$lists"
}

# list_json WORD…: sets $listed to what the client lists, or $detail.
list_json() {
    form=--output
    [ "$source" = crictl ] || form=--format
    listed=$(timeout -s KILL 30 "$program_path" "$@" "$form" json 2>/dev/null </dev/null) ||
        { detail="$source $1 ended with status $?"; return 1; }
    [ "${#listed}" -le 16777216 ] || { detail="$source $1 lists more than 16 MiB"; return 1; }
}

# Sets $pause; a verb that looks at no files has to ask.
find_pause() {
    [ "$verb" = observe ] || { ask_pause; return 0; }
    find_settings
    if [ "$settings" != "$told_settings" ]; then
        ask_pause
        told_pause=$pause told_settings=$settings
    fi
    pause=$told_pause
}

# Sets $settings to what was seen of the files that the runtime's settings come from; never to nothing.
find_settings() {
    settings=.$effective
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        is_managed "${line##* }" || settings="$settings ${line#* }"
    done
    IFS=' '
}

# The image that holds every pod's namespaces; a default is shown as a comment.
ask_pause() {
    said=$("$program_path" config 2>/dev/null </dev/null)
    IFS=$newline
    for line in $said; do
        IFS=' '
        case $line in
            'pause_image = "'*'"' | '# pause_image = "'*'"') pause=${line#*\"} pause=${pause%\"*} ;;
        esac
    done
    IFS=' '
}

# --- apply and revert ------------------------------------------------------------------------------------------------

apply() {
    admit
    if [ -d "$pending" ]; then
        undo_pending "the step $step came before a confirmation"
        take_request
        read_owner
    fi
    plan_apply || decline "$result" "$reason" "$detail"
    carry_out extract_all
}

# A pending change is the current generation: undoing it is the revert that is asked for.
revert() {
    list_previous
    admit
    if [ -d "$pending" ]; then
        asked=$step
        undo_pending "the revert $step came before a confirmation" "$epoch $fence $step"
        receipt=$(cat "$state/receipts/$asked")
        answer
    fi
    [ -f "$state/previous/plan" ] || decline refused no-previous 'no generation before this one is kept'
    plan_revert || decline "$result" "$reason" "$detail"
    carry_out copy_previous
}

# What every writing verb asks first.
admit() {
    admit_log
    answer_stored
    admit_fence
    [ ! -f "$state/hold" ] || [ "$by_operator" = yes ] || decline refused hold "$(head -n 1 "$state/hold")"
    [ -z "$actions" ] || [ -n "$systemctl" ] || [ -n "$root" ] ||
        decline failed missing-program 'this host has no systemctl'
}

admit_log() {
    read_owner
    stamp=$owner_log
    [ -n "$stamp" ] || [ ! -f "$state/baseline/log_id" ] || read -r stamp <"$state/baseline/log_id"
    [ -z "$stamp" ] || [ "$stamp" = "$log_id" ] ||
        decline refused log-id "this node belongs to the log $stamp"
}

# A finished step is answered as it was.
answer_stored() {
    read_receipt "$step" || return 0
    printf '%s' "$text"
    exit 0
}

admit_fence() {
    if [ "$epoch" -lt "$owner_epoch" ] || { [ "$epoch" = "$owner_epoch" ] && [ "$fence" -lt "$owner_fence" ]; }; then
        other=''
        [ "$epoch" -ge "$owner_epoch" ] || other=': another copy of this log has taken it'
        decline refused fence "this node has seen epoch $owner_epoch, fence $owner_fence$other"
    fi
}

# Compares the node with the request: sets $new_plan and $old_plan, whose lines are
# `NUMBER write|remove MODE UID GID SHA256 file|restore PATH`; only paths that differ have one.
plan_apply() {
    result=failed
    survey $paths || { reason=unreadable; return 1; }
    manifest_of_survey
    if [ -n "$start" ] && [ "$start" != "$manifest" ]; then
        result=stale reason='' detail='the files are not those that the plan started from'
        return 1
    fi
    load_baseline
    number=0 rest=$wanted lines='' sorted=yes last=''
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        want=${rest%%"$newline"*} rest=${rest#*"$newline"} number=$((number + 1))
        if target ${want#* } && differs $line; then
            plan_change $line
            [ "$op" = write ] && line="file $sha $mode - - - - ${want%% *}" || line="absent - - - - - - ${want%% *}"
        fi
        add_state $line
    done
    IFS=' '
    [ "$sorted" = no ] || foreseen=$lines
}

# target file MODE SHA256 LENGTH | target restore | target remove: sets what $want asks for; fails when it asks for nothing.
target() {
    tag=$1 op=write mode=${2-} owner=0 group=0 sha=${3-}
    case $tag in
        file) return 0 ;;
        remove) op=remove mode=- owner=- group=- sha=-; return 0 ;;
    esac
    in_baseline "${want%% *}" || return 1 # never written by us: what is there is the baseline
    target_baseline $baseline_line
}

target_baseline() {
    mode=$3 owner=$4 group=$5 sha=$2
    [ "$1" = file ] || op=remove
}

# differs KIND SHA256 MODE …
differs() {
    case $op:$1 in
        remove:absent) return 1 ;;
        write:file) [ "$sha $mode" != "$2 $3" ] ;;
    esac
}

# plan_change KIND SHA256 MODE UID GID SIZE MTIME PATH
plan_change() {
    new_plan="$new_plan$number $op $mode $owner $group $sha $tag $8$newline"
    case $1 in
        file) old_plan="$old_plan$number write $3 $4 $5 $2 $tag $8$newline" ;;
        *) old_plan="$old_plan$number remove - - - - $tag $8$newline" ;;
    esac
    case $tag in
        file) written="$written${written:+ }$8" ;;
        *) restored="$restored${restored:+ }$8" ;;
    esac
}

list_previous() {
    [ -f "$state/previous/paths" ] || return 0
    paths=$(tr '\n' ' ' <"$state/previous/paths")
    paths=${paths% }
}

plan_revert() {
    result=failed
    previous=$(cat "$state/previous/plan")
    survey $paths || { reason=unreadable; return 1; }
    manifest_of_survey
    IFS=$newline
    for entry in $previous; do
        IFS=' '
        plan_back $entry
    done
    IFS=' '
}

# plan_back NUMBER OP MODE UID GID SHA256 TAG PATH
plan_back() {
    number=$1 op=$2 mode=$3 owner=$4 group=$5 sha=$6 tag=restore
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        [ "${line##* }" != "$8" ] || { differs $line && plan_change $line; }
    done
    IFS=' '
}

# carry_out FILLER: from a plan to the answer. FILLER puts the new bytes into staging/journal/new.
carry_out() {
    unit_state
    is_healthy || healthy_before=false
    if [ -n "$new_plan" ]; then
        :
    elif [ "$always" = yes ] && [ -n "$actions" ]; then
        confirm_within=0 # there is nothing to undo
    else
        result=same
        [ "$verb" != release ] || result=released
        finish
        answer
    fi
    find_obstacles || decline refused "$reason" "$detail"
    [ "$healthy_before" = true ] || decline failed unhealthy-before "$unit is $active; no file was touched"
    check_health || decline failed unhealthy-before "$detail; no file was touched"
    stage "$1" || decline failed "$reason" "$detail"
    [ "$confirm_within" = 0 ] || start_timer
    result=''
    perform
    [ -n "$result" ] || decline failed "$reason" "$detail"
    answer
}

# Symlinks, mounts and things that are no plain file are somebody else's arrangement.
find_obstacles() {
    mounts=$newline
    IFS=$newline
    for line in $(cat /proc/self/mountinfo 2>/dev/null); do
        IFS=' '
        add_mount $line
    done
    IFS=$newline
    for line in $new_plan; do
        IFS=' '
        find_obstacle "${line##* }" || return 1
    done
    IFS=' '
}

add_mount() {
    case $5 in
        "$root"/etc/*) mounts="$mounts${5#"$root"}$newline" ;;
    esac
}

find_obstacle() {
    walked=/etc rest=${1#/etc/}
    while [ -n "$rest" ]; do
        walked=$walked/${rest%%/*}
        case $rest in
            */*) rest=${rest#*/} ;;
            *) rest='' ;;
        esac
        detail=$walked
        [ ! -L ".$walked" ] || { reason=symlink; return 1; }
        case $mounts in
            *"$newline$walked$newline"*) reason=mount; return 1 ;;
        esac
        [ -e ".$walked" ] || break
        if [ -n "$rest" ]; then
            [ -d ".$walked" ] || { reason=not-a-directory; return 1; }
        else
            [ -f ".$walked" ] || { reason=not-a-file; return 1; }
        fi
    done
    reason='' detail=''
}

# decline RESULT REASON DETAIL: the receipt of a request that changed nothing; not stored, so it may be tried again.
decline() {
    result=$1 reason=$2 detail=$3 written='' restored='' action='' loaded=null
    build_receipt
    answer
}

answer() {
    if [ "$by_operator" = yes ]; then
        printf '%s (generation %s)%s\n' "$result" "${generation-$owner_generation}" "${reason:+: $reason: $detail}"
        [ "$result" = reverted ] || [ "$result" = same ] || [ "$result" = released ]
        exit
    fi
    printf '%s\n' "$receipt"
    exit 0
}

# --- State directory -------------------------------------------------------------------------------------------------

make_state() {
    [ -d "$state" ] || try mkdir -p "$state"
}

lock() {
    if [ -w "$state/lock" ] || (: >>"$state/lock") 2>/dev/null; then
        exec 9>>"$state/lock"
    elif [ -r "$state/lock" ]; then
        exec 9<"$state/lock" # read-only file system: looking is still possible
    elif only_looks; then
        return 0
    else
        try write "$state/lock" '' || return 1
    fi
    turns=0
    until flock -n 9; do
        turns=$((turns + 1))
        [ "$turns" -lt 300 ] || { reason=busy detail='another request holds the lock'; return 1; }
        pause
    done
}

pause() {
    sleep 0.2 2>/dev/null || sleep 1
}

# try COMMAND…: on failure sets $reason and $detail from what it said.
try() {
    detail=$("$@" 2>&1 >/dev/null) && { detail=''; return 0; }
    case $detail in
        *'No space left'* | *'quota exceeded'*) reason=disk-full ;;
        *'Read-only file system'*) reason=read-only ;;
        *'ermission denied'* | *'not permitted'*) reason=permission ;;
        *'resource busy'*) reason=mount ;;
        *) reason=write-failed ;;
    esac
    return 1
}

# attempt FUNCTION…: the same for what may be repeated, without a process of its own where it goes well.
attempt() {
    "$@" >/dev/null 2>&1 && { detail=''; return 0; }
    IFS=' '
    try "$@"
}

# write FILE LINES
write() {
    put "$1" "$2$newline"
}

# put FILE TEXT: printf says that a write failed, cat says why.
put() {
    printf '%s' "$2" 2>/dev/null >"$1" || printf '%s' "$2" | cat >"$1"
}

# slurp FILE: sets $text to its lines.
slurp() {
    text=''
    [ ! -f "$1" ] || while IFS= read -r line; do text="$text$line$newline"; done <"$1"
}

# flush FILE…: all but the first of one file system; many are cheaper together.
flush() {
    if [ $# -le 16 ]; then
        sync "$@" 2>/dev/null || sync
    else
        sync -f "$1" "$2" 2>/dev/null || sync
    fi
}

# Everything written below the state directory.
flush_state() {
    sync -f "$state" 2>/dev/null || sync
}

# save FILE TEXT [OTHER]: replaces a file of the state directory at once; the caller makes the rename durable. OTHER is
# flushed with it.
save() {
    attempt write "$1.new" "$2" || return 1
    flush "$1.new" ${3+"$3"}
    attempt mv -f "$1.new" "$1"
}

read_owner() {
    owner_log='' owner_epoch=0 owner_fence=0 owner_generation=0 owner_step='' owner_head='0 '
    [ -r "$state/owner" ] || return 0
    while read -r key value; do
        case $key in
            log_id) owner_log=$value ;;
            epoch) owner_epoch=$value ;;
            fence) owner_fence=$value ;;
            generation) owner_generation=$value ;;
            step) owner_step=$value ;;
            head) owner_head=$value ;;
        esac
    done <"$state/owner"
}

# json_stamp LOG EPOCH FENCE STEP: sets $stamp, of the generation and head of the owner.
json_stamp() {
    stamp="{\"log_id\":\"$1\",\"epoch\":$2,\"fence\":$3,\"generation\":$owner_generation,\"step\":\"$4\""
    stamp="$stamp,\"head\":${owner_head%% *},\"head_hash\":\"${owner_head#* }\"}"
}

# Sets $left to the stamp with which a log gave the node back; where an older program kept none, to its receipt, which has
# all of it but the head.
read_left() {
    [ -f "$state/released" ] || return 0
    { read -r receipt && read -r text; } <"$state/released" || return 0
    case $text in '{'*) left=$text ;; *) left=$receipt ;; esac
}

# claim GENERATION [STEP]: stamps the node with this request's log, epoch, fence and, where it names one, head of
# the log; the caller makes that durable.
claim() {
    write_claim "$state/owner.new" "$@" && flush "$state/owner.new" && place_claim
}

# write_claim FILE GENERATION [STEP]
write_claim() {
    owner_generation=$2 owner_step=${3-$owner_step}
    word_claim "$2" "$owner_step"
    attempt write "$1" "$owner_text"
}

# word_claim GENERATION STEP: sets $owner_text.
word_claim() {
    owner_head=${log_head:-$owner_head}
    owner_text="log_id $log_id${newline}epoch $epoch${newline}fence $fence${newline}generation $1${newline}step $2"
    [ "$owner_head" = '0 ' ] || owner_text="$owner_text${newline}head $owner_head"
}

# is_claimed GENERATION STEP: whether the node is stamped so already.
is_claimed() {
    word_claim "$@"
    slurp "$state/owner"
    [ "$text" = "$owner_text$newline" ]
}

place_claim() {
    unrelease && attempt mv -f "$state/owner.new" "$state/owner"
}

# Somebody's node again.
unrelease() {
    [ ! -f "$state/released" ] || try rm -f "$state/released"
}

# Leaves this program on the host for its operator. The first line of one that was sent says by its hash which it is.
keep_program() {
    program=${node_sh-} kept='' program_aside=''
    [ -n "$program" ] || [ ! -f "$0" ] || program=$(cat "$0")
    [ ! -f "$state/node.sh" ] || read -r kept <"$state/node.sh" || :
    case $kept:$program in
        '# sha256 '*":$kept$newline"*) return 0 ;;
    esac
    program_aside=$aside/node.sh
    attempt write "$program_aside" "$program"
}

# The baseline's manifest has lines `PATH KIND SHA256 MODE UID GID`; it only ever grows.
load_baseline() {
    slurp "$state/baseline/manifest"
    baseline=$newline$text
}

in_baseline() {
    baseline_line=${baseline#*"$newline$1 "}
    [ "$baseline_line" != "$baseline" ] || return 1
    baseline_line=${baseline_line%%"$newline"*}
}

# Copies every path that is about to be changed for the first time, from the verified copy in the journal, and writes down
# the directories that will be made. Sets $fresh to the files that are to be moved to the baseline.
keep_baseline() {
    [ -f "$state/baseline/log_id" ] || put_aside log_id "$log_id$newline" || return 1
    load_baseline
    added=''
    IFS=$newline
    for line in $old_plan; do
        IFS=' '
        in_baseline "${line##* }" || add_baseline $line || return 1
    done
    IFS=' '
    [ -z "$added" ] || put_aside manifest "${baseline#"$newline"}$added" || return 1
    find_missing "$new_plan"
    ! add_made || put_aside directories "${made#"$newline"}"
}

# put_aside NAME TEXT
put_aside() {
    attempt put "$aside/$1" "$2" && fresh="$fresh${fresh:+ }$aside/$1"
}

# add_baseline NUMBER OP MODE UID GID SHA256 TAG PATH
add_baseline() {
    if [ "$2" = remove ]; then
        added="$added$8 absent - 0000 0 0$newline"
        return 0
    fi
    kept=$state/baseline/files$8
    [ -d "${kept%/*}" ] || try mkdir -p "${kept%/*}" || return 1
    try cp -p "$staging/old/$1" "$kept" || return 1
    added="$added$8 file $6 $3 $4 $5$newline"
}

# stage FILLER: builds the whole journal and the stamp aside, with what is new for the baseline and this program for the
# operator, and makes them valid with one rename each, when all of it is on disk: the stamp last, since it says how the
# node stands at the end. The renames are on disk before anything that is in use is changed: see place_todo.
stage() {
    aside=$state/staging staging=$state/staging/journal filler=$1
    machine_facts
    set --
    for directory in "$aside" "$state/receipts" "$state/baseline" "$state/baseline/files"; do
        [ -d "$directory" ] || set -- "$@" "$directory"
    done
    attempt mkdir "$@" "$staging" "$staging/new" "$staging/old" && write_stamps &&
        attempt write_journal && fill "$filler" && attempt copy_old && verify && keep_states && keep_baseline &&
        keep_program ||
        { rm -rf "$aside"; return 1; }
    flush_state
    [ -z "$fresh" ] || attempt mv -f $fresh "$state/baseline" || return 1
    unrelease && attempt mv -f $program_aside "$staging" "$aside/owner" "$state"
}

# The stamp for the end of the change, and in the journal the one that names neither its generation nor its step.
write_stamps() {
    set -- "$owner_generation" "$owner_step"
    reached=$1
    [ -z "$new_plan" ] || reached=$(($1 + 1))
    write_claim "$aside/owner" "$reached" "$step" || { owner_generation=$1; return 1; }
    write_claim "$staging/owner" "$1" "$2"
}

write_journal() {
    request_text="verb $verb${newline}log_id $log_id${newline}epoch $epoch${newline}fence $fence${newline}step $step"
    request_text="$request_text${newline}runtime $runtime${newline}actions $actions${newline}confirm $confirm_within"
    request_text="$request_text${newline}release $release"
    path_text=''
    for path in $paths; do path_text="$path_text${path_text:+$newline}$path"; done
    write "$staging/request" "$request_text" && write "$staging/old/request" "$request_text" &&
        write "$staging/old/paths" "$path_text" && write "$staging/generation" "$owner_generation" &&
        write "$staging/boot" "$boot_id" && write "$staging/state" staged && write "$staging/checks" "$checks" &&
        write "$staging/new/plan" "${new_plan%"$newline"}" && write "$staging/old/plan" "${old_plan%"$newline"}" &&
        { [ -z "$foreseen" ] || write "$staging/foreseen" "${foreseen%"$newline"}"; }
}

# fill FILLER: what comes from the pipe can be read only once.
fill() {
    if [ "$bodies" = piped ]; then try "$1"; else attempt "$1"; fi
}

extract_all() {
    umask 022
    extract_each
    done=$?
    umask 077
    return "$done"
}

# Puts the bodies into their files. Of piped ones those that nobody needs are passed over together, and those after the
# last one that is needed stay unread.
extract_each() {
    number=0 passed=0
    IFS=$newline
    for line in $wanted; do
        IFS=' '
        number=$((number + 1))
        extract_one $line || return 1
    done
}

# extract_one PATH file MODE SHA256 LENGTH | extract_one PATH restore | extract_one PATH remove
extract_one() {
    case "$newline$new_plan" in
        *"$newline$number write "*) into=$staging/new/$number ;;
        *) passed=$((passed + ${5:-0})); return 0 ;;
    esac
    if [ "$2" != file ]; then
        cp "$state/baseline/files$1" "$into"
    elif [ "$bodies" = texts ]; then
        put_body "$number" "$into"
    elif [ "$5" = 0 ]; then
        : >"$into"
    else
        [ "$passed" = 0 ] || dd bs="$passed" count=1 iflag=fullblock of=/dev/null || return 1
        passed=0
        dd bs="$5" count=1 iflag=fullblock of="$into"
    fi
}

copy_previous() {
    copy_writes "$new_plan" "$state/previous" "$staging/new"
}

copy_old() {
    IFS=$newline
    for line in $old_plan; do
        IFS=' '
        copy_one $line || return 1
    done
    IFS=' '
}

copy_one() {
    [ "$2" = remove ] || cp -p ".$8" "$staging/old/$1"
}

copy_writes() {
    copy_from=$2 copy_to=$3
    IFS=$newline
    for line in $1; do
        IFS=' '
        case $line in
            *' write '*) cp "$copy_from/${line%% *}" "$copy_to/${line%% *}" || return 1 ;;
        esac
    done
    IFS=' '
}

# The staged bytes of both sets are what their plans say. The manifest that is to come of it is reckoned along with them.
verify() {
    staged='' expected=''
    expect_all "$staging/new" "$new_plan"
    expect_all "$staging/old" "$old_plan"
    [ -z "$foreseen" ] || staged="$staged $staging/foreseen"
    [ -n "$staged" ] || return 0
    sums=$(sha256sum $staged 2>/dev/null)
    for sum in $expected; do
        [ "${sums%% *}" = "$sum" ] || { reason=payload detail='staged bytes differ from their hash'; return 1; }
        sums=${sums#*"$newline"}
    done
    [ -z "$foreseen" ] || foreseen_manifest=${sums%% *}
}

keep_states() {
    [ -z "$foreseen" ] || attempt put "$staging/old/states" "$foreseen_manifest$newline$foreseen"
}

# expect_all DIRECTORY PLAN: what $staged, the files to be verified, and $expected, their hashes, get from a set.
expect_all() {
    IFS=$newline
    for line in $2; do
        IFS=' '
        expect "$1" $line
    done
    IFS=' '
}

# expect DIRECTORY NUMBER OP MODE UID GID SHA256 TAG PATH
expect() {
    [ "$3" = remove ] || staged="$staged $1/$2" expected="$expected $7"
}

# --- Changing the files ----------------------------------------------------------------------------------------------

# Carries the journal from `staged` to its end. Sets $result, or only $reason when nothing could be changed.
perform() {
    enter placing
    todo=$new_plan # as it was seen just now
    ready=''
    case $verb in
        apply | release) ready='0644 0:0' ;; # as extract_all makes files
    esac
    if ! place_todo new "$ready"; then
        blocked=$reason blocked_detail=$detail
        place old && take_back
        reason=$blocked detail=$blocked_detail
        return 0
    fi
    mark_log
    enter placed
    act_and_settle
}

act_and_settle() {
    act
    enter "acted $acted" "$action"
    settle
}

# After the action: keep the new files, or put the old ones back and tell the runtime again.
settle() {
    if check && check_health && { [ "$confirm_within" = 0 ] || set_deadline; }; then
        remove_late new
        case $verb in
            apply) [ -n "$written$restored" ] && result=applied || result=same ;;
            release) result=released ;;
            *) result=reverted ;;
        esac
        finish
    else
        write "$journal/failure" "$reason ${failed_check:--} $detail" 2>/dev/null
        fall_back
    fi
}

fall_back() {
    cause=${reason:-reload-failed} cause_check=${failed_check:--} cause_detail=$detail
    [ ! -f "$journal/expired" ] || cause=unconfirmed
    [ ! -s "$journal/failure" ] || read -r cause cause_check cause_detail <"$journal/failure"
    enter reverting
    result=''
    place old || return 0 # the journal stays: the next verb goes on from here
    mark_log
    act
    remove_late old
    check || cause_detail="$cause_detail; after the old files were put back: $reason $detail"
    reason=$cause failed_check=${cause_check#-} detail=$cause_detail
    result=reverted
    case $verb in
        revert | host-revert) result=failed ;;
    esac
    [ ! -f "$journal/claim" ] || answer_claim
    finish
}

# enter STATE [ACTION]: the last whole line of the journal's state counts. It need not reach the disk: after a power
# loss an older state only means that the change is undone and sent again.
enter() {
    printf '%s\n' "$1${2:+ $2}" 2>/dev/null >>"$journal/state" || :
}

# The request goes first: a journal without one is on its way out.
close_journal() {
    rm -rf "$journal/request" "$journal" 2>/dev/null
}

# place SET: makes the files of journal/SET stand at their paths, loadable at every moment: first all copies beside
# their targets, then the renames by rank. What already is as it should be is not touched.
place() {
    select_todo "$1" && place_todo "$1"
}

# place_todo SET [MODE UID:GID]: the same for the lines of $todo. Staged files that are to have this mode and owner have
# them already, and a body that is at hand makes a file that has them; its staged file was verified, so that this one,
# which was written whole or failed, is not read again.
place_todo() {
    placing=$journal/$1 staged_as=${2-}
    make_directories || return 1
    copies='' verified=yes fits=$newline directories=''
    IFS=$newline
    for line in $todo; do
        IFS=' '
        copy_beside $line || return 1
    done
    IFS=' '
    set -- $copies
    if [ $# -gt 0 ]; then
        fit_copies && { [ "$verified" = yes ] || same_bytes "$@"; } || return 1
    fi
    [ -z "$todo" ] || flush "$state" "$@" ${fresh:+"$state/baseline"}
    for rank in 1 2 3 4 5 6; do
        place_rank "$rank" || return 1
    done
    flush_directories
}

# select_todo SET: sets $todo to the plan's lines that the node does not show yet.
select_todo() {
    slurp "$journal/$1/plan"
    plan=$text todo=''
    set --
    IFS=$newline
    for line in $plan; do
        set -- "$@" "${line##* }"
    done
    IFS=' '
    survey "$@" || { reason=unreadable; return 1; }
    rest=$plan
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        entry=${rest%%"$newline"*} rest=${rest#*"$newline"}
        compare $entry && differs $line && todo="$todo$entry$newline"
    done
    IFS=' '
}

compare() {
    op=$2 mode=$3 sha=$6
}

# copy_beside NUMBER OP MODE UID GID SHA256 TAG PATH: the copy beside the target, ready to be renamed.
copy_beside() {
    copy=.${8%/*}/.${8##*/}.reconciler
    [ ! -e "$copy" ] || rm -f "$copy"
    [ "$2" = write ] || return 0
    copies="$copies${copies:+ }$copy"
    if [ "$3 $4:$5 $7 $bodies" = "$staged_as file texts" ]; then
        umask 022
        attempt put_body "$1" "$copy"
        done=$?
        umask 077
        [ "$done" = 0 ] || return 1
    elif [ "$3 $4:$5" = "$staged_as" ]; then
        verified=no
        attempt cp -p "$placing/$1" "$copy" || return 1
    else
        verified=no
        attempt cp "$placing/$1" "$copy" || return 1
        case $fits in
            *"$newline$3 $4:$5$newline"*) ;;
            *) fits="$fits$3 $4:$5$newline" ;;
        esac
    fi
    if [ -e /sys/fs/selinux/enforce ] && [ -e ".$8" ] && command -v chcon >/dev/null 2>&1; then
        chcon --reference=".$8" "$copy" 2>/dev/null || :
    fi
}

# Gives the copies their modes and owners; $fits has each distinct `MODE UID:GID`.
fit_copies() {
    IFS=$newline
    for fit in $fits; do
        IFS=' '
        select_copies "${fit% *}" "${fit#* }"
        attempt chmod "${fit% *}" $selected || return 1
        [ "$uid" != 0 ] || attempt chown "${fit#* }" $selected || return 1
    done
    IFS=' '
}

select_copies() {
    selected='' selecting="$1 $2"
    IFS=$newline
    for line in $todo; do
        IFS=' '
        select_copy $line
    done
    IFS=' '
}

select_copy() {
    [ "$2" = remove ] || [ "$3 $4:$5" != "$selecting" ] || selected="$selected${selected:+ }.${8%/*}/.${8##*/}.reconciler"
}

# same_bytes COPY…: the copies, in the order of $todo, have the hashes of the plan.
same_bytes() {
    sums=$(sha256sum "$@" 2>/dev/null)
    IFS=$newline
    for line in $todo; do
        IFS=' '
        is_next_sum $line || { reason=write-failed detail="${line##* } could not be copied whole"; return 1; }
    done
    IFS=' '
}

is_next_sum() {
    [ "$2" = write ] || return 0
    sum=${sums%%"$newline"*} sums=${sums#*"$newline"}
    [ "${sum%% *}" = "$6" ]
}

# Makes the directories that $todo needs; they are written down first, so that they can go again.
make_directories() {
    find_missing "$todo"
    [ -n "$missing" ] || return 0
    if add_made; then
        made=${made#"$newline"}
        save "$state/baseline/directories" "${made%"$newline"}" || return 1
    fi
    [ -z "$fresh" ] || flush "$state" "$state/baseline"
    set --
    IFS=$newline
    for directory in $missing; do set -- "$@" ".$directory"; done
    IFS=' '
    umask 022
    try mkdir -p "$@"
    done=$?
    umask 077
    return "$done"
}

# find_missing PLAN: sets $missing to the directories that its files need, each once and behind the one above it.
find_missing() {
    missing='' last_walked=''
    IFS=$newline
    for line in $1; do
        IFS=' '
        case $line in
            *' write '*) add_missing "${line##* }" ;;
        esac
    done
    IFS=' '
}

add_missing() {
    walked=${1%/*} chain=''
    [ "$walked" != "$last_walked" ] || return 0
    last_walked=$walked
    until [ -d ".$walked" ]; do
        case $newline$missing in
            *"$newline$walked$newline"*) break ;;
        esac
        chain=$walked$newline$chain walked=${walked%/*}
    done
    missing=$missing$chain
}

# Adds what is missing to $made, the directories that we made; fails where nothing is new.
add_made() {
    [ -n "$missing" ] || return 1
    load_made
    noted=$made
    IFS=$newline
    for directory in $missing; do
        case $made in
            *"$newline$directory$newline"*) ;;
            *) made=$made$directory$newline ;;
        esac
    done
    IFS=' '
    [ "$made" != "$noted" ]
}

load_made() {
    slurp "$state/baseline/directories"
    made=$newline$text
}

# sweep NUMBER OP MODE UID GID SHA256 TAG PATH: removes a copy left beside the target; where the target is gone,
# also the directory that we made for it, if it is empty, and its parents alike.
sweep() {
    dropped=${8%/*}
    copy=.$dropped/.${8##*/}.reconciler
    [ ! -e "$copy" ] || rm -f "$copy"
    [ ! -e ".$8" ] || return 0
    [ -n "$made" ] || load_made
    while :; do
        case $made in
            *"$newline$dropped$newline"*) rmdir ".$dropped" 2>/dev/null || return 0 ;;
            *) return 0 ;;
        esac
        dropped=${dropped%/*}
    done
}

# CAs first, then what a policy needs, the policy, registries.conf, its drop-ins, the rest; CAs go after the action.
rank_of() {
    case $1:$2 in
        write:/etc/docker/certs.d/* | write:/etc/containers/certs.d/*) ranked=1 ;;
        remove:/etc/docker/certs.d/* | remove:/etc/containers/certs.d/*) ranked=late ;;
        write:/etc/containers/registries.d/*) ranked=2 ;;
        *:/etc/containers/policy.json | *:/etc/crio/policies/*) ranked=3 ;;
        *:/etc/containers/registries.conf) ranked=4 ;;
        *:/etc/containers/registries.conf.d/*) ranked=5 ;;
        *) ranked=6 ;;
    esac
}

place_rank() {
    wanted_rank=$1
    IFS=$newline
    for line in $todo; do
        IFS=' '
        place_one $line || return 1
    done
    IFS=' '
}

place_one() {
    rank_of "$2" "$8"
    [ "$ranked" = "$wanted_rank" ] || return 0
    directory=.${8%/*}
    directories="$directories${directories:+ }$directory"
    if [ "$2" = write ]; then
        attempt mv -f "$directory/.${8##*/}.reconciler" ".$8"
    else
        try rm -f ".$8"
    fi
}

flush_directories() {
    set --
    last=''
    for directory in $directories; do
        [ "$directory" = "$last" ] || set -- "$@" "$directory"
        last=$directory
    done
    if [ -n "$missing" ]; then
        sync -f ./etc 2>/dev/null || sync
    elif [ $# -gt 0 ]; then
        flush "$@"
    fi
}

# remove_late SET: the CAs that the set does not have, once the runtime knows the rest, and what else is left over.
remove_late() {
    slurp "$journal/$1/plan"
    directories='' missing='' todo=$text
    place_rank late || :
    flush_directories
    made=''
    IFS=$newline
    for line in $todo; do
        IFS=' '
        sweep $line
    done
    IFS=' '
}

# --- The runtime -----------------------------------------------------------------------------------------------------

# Tells the runtime, in the given order, up to the first failure. Sets $action (all of them, or the one that failed)
# and $acted (`ok`, `skipped`, or the exit status of what failed).
act() {
    action='' acted=ok
    [ -n "$actions" ] || return 0
    if [ -z "$systemctl" ]; then
        action='skipped: no systemctl in root' acted=skipped
        return 0
    fi
    for wish in $actions; do
        act_once "$wish" || { acted=$? action=$wish; return 0; }
        action="$action${action:+ }$wish"
    done
}

# A restart waits for pulls in flight; the rest is quick.
act_once() {
    case $1 in
        daemon-reload) set -- 60 daemon-reload ;;
        reload:*) set -- 60 reload "${1#reload:}" ;;
        *) set -- 120 restart "${1#restart:}" ;;
    esac
    limit=$1
    shift
    timeout -s KILL "$limit" "$systemctl" "$@" >/dev/null 2>&1 </dev/null
}

asks_for() {
    case " $actions " in
        *" $1 "*) return 0 ;;
    esac
    return 1
}

# Remembers where the runtime's log ends, so that only what the action brings is read. Not bounded: journalctl reads files.
mark_log() {
    [ -n "$journalctl" ] && asks_for reload:crio.service || return 0
    said=$("$journalctl" -u crio.service -n 0 --show-cursor -q --no-pager 2>/dev/null </dev/null)
    case $said in
        *'-- cursor: '*) mark=${said##*'-- cursor: '} mark=--after-cursor=${mark%%"$newline"*} ;;
        *) mark=--since=@$(date +%s) ;;
    esac
    write "$journal/mark" "$mark" 2>/dev/null || :
}

# check: did the runtime load the files and does it live? Sets $loaded, $active, and $reason where not.
check() {
    loaded=null reason='' detail=''
    unit_state
    case $acted in
        skipped) return 0 ;;
        ok) ;;
        *)
            reason=${action%%:*}-failed detail="systemctl ${action%%:*} failed with status $acted"
            return 1
            ;;
    esac
    # a runtime that started has loaded what stood there: its log tells of reloads only
    asks_for restart:crio.service || check_log || return 1
    turns=0
    until is_healthy; do
        turns=$((turns + 1))
        is_settled || [ "$turns" -ge 10 ] && { reason=unhealthy detail="$unit is $active"; return 1; }
        pause
        unit_state
    done
    ! asks_for restart:crio.service || [ "$active" != active ] || loaded=true
    check_restarted
}

# Units other than the runtime that were started anew live too.
check_restarted() {
    for wish in $actions; do
        case $wish in
            restart:crio.service) ;;
            restart:*)
                said=$("$systemctl" is-active "${wish#restart:}" 2>/dev/null </dev/null) ||
                    { reason=unhealthy detail="${wish#restart:} is ${said%%"$newline"*}"; return 1; }
                ;;
        esac
    done
}

is_settled() {
    [ "$active" = failed ] || [ "$active" = inactive ]
}

# A reload's exit status proves nothing: only the runtime's own log says whether it took the files.
check_log() {
    [ -n "$journalctl" ] && [ -f "$journal/mark" ] || return 0
    read -r mark <"$journal/mark" || :
    turns=0
    while :; do
        said=$("$journalctl" -u crio.service "$mark" -o cat -q --no-pager 2>/dev/null </dev/null)
        case $said in
            *'Unable to reload configuration'*)
                detail=${said##*'Unable to reload configuration'}
                loaded=false reason=reload-failed detail="Unable to reload configuration${detail%%"$newline"*}"
                return 1
                ;;
            *'Applied new registry configuration'*)
                loaded=true
                return 0
                ;;
        esac
        turns=$((turns + 1))
        [ "$turns" -lt 10 ] || return 0
        pause
        unit_state
        is_healthy || return 0
    done
}

# --- Commands of the caller ------------------------------------------------------------------------------------------

# Runs the health checks up to the first that fails. Sets $failed_check, $reason and $detail.
check_health() {
    IFS=$newline
    for line in $checks; do
        IFS=' '
        run_check $line || { reason=health-check-failed; return 1; }
    done
    IFS=' '
    failed_check=''
}

# run_check NAME command :WORD… | run_check NAME image REFERENCE
run_check() {
    failed_check=$1 check_kind=$2
    shift 2
    if [ "$check_kind" = command ]; then
        for packed_word; do
            unpack_word "$packed_word" || { detail='a word of the command is no base64'; return 1; }
            set -- "$@" "$word"
            shift
        done
    elif [ "$runtime" = crio ]; then
        set -- crictl pull "$1"
    else
        set -- podman pull -q "$1"
    fi
    find_command "$1" || { detail="this host has no $1"; return 1; }
    shift
    run_bounded 60 200 "$program_path" "$@"
    case $status in
        0) detail=''; return 0 ;;
        124) detail='did not end within 60 s' ;;
        *) detail="status $status" ;;
    esac
    detail="$detail${output:+: $(printf '%s' "$output" | tr '\n' ' ')}"
    return 1
}

# find_command PROGRAM: sets $program_path. Below a root its own programs are run, never the host's.
find_command() {
    case $1 in
        /*) program_path=$root$1 ;;
        *) find_program "$1" || return 1 ;;
    esac
    [ -x "$program_path" ]
}

# run_bounded SECONDS BYTES COMMAND…: sets $status (124: it took longer) and $output, the last BYTES of what it said.
# It runs as if node.sh were not there: signals, umask and the lock are not handed down.
run_bounded() {
    seconds=$1 room=$2
    shift 2
    hundredths
    began=$ticks
    # what the command leaves running may hold on to its output: tail is bounded too
    output=$(
        { run_free "$@" 2>&1; printf '\n%s' "$?"; } | timeout -s KILL $((seconds + 10)) tail -c $((room + 4))
    )
    status=${output##*"$newline"}
    output=${output%"$newline"*}
    is_number "$status" || status=137 output=''
    hundredths # not every timeout says that it ended the command
    [ "$status" = 0 ] || [ $((ticks - began)) -lt $((seconds * 100)) ] || status=124
    output=$(printf '%s' "$output" | tail -c "$room")
}

# Sets $ticks to a time in 1/100 s that only goes on.
hundredths() {
    ticks=''
    [ ! -r /proc/uptime ] || read -r ticks rest </proc/uptime || :
    ticks=${ticks%.*}${ticks#*.}
    is_number "$ticks" || ticks=$(date +%s)00
}

run_free() (
    trap - PIPE HUP INT TERM
    umask 022
    IFS=$newline
    for line in $environment; do
        unpack_word "${line#* }" && set -- "${line%% *}=$word" "$@"
    done
    exec timeout -k 5 "$seconds" env "$@" </dev/null 9>&-
)

# Runs a command for the caller, such as one that drains the node. A held node is left alone.
hook() {
    parse_header "$header" || refuse "$reason" "$detail"
    [ ! -f "$state/hold" ] || refuse hold "$(head -n 1 "$state/hold")"
    set --
    for packed_word in $command; do
        unpack_word "$packed_word" || refuse payload 'a word of the command is no base64'
        set -- "$@" "$word"
    done
    if find_command "$1"; then
        shift
        run_bounded "$hook_seconds" 1000 "$program_path" "$@"
    else
        status=127 output="this host has no $1"
    fi
    unwrap "$(printf '%s' "$output" | base64)"
    printf '{"protocol":1,"status":%s,"output":"%s"}\n' "$status" "$unwrapped"
    exit 0
}

# --- Confirmation ----------------------------------------------------------------------------------------------------

# A pending change is its journal, kept whole under another name until it is confirmed: undoing it is the same as
# falling back from a failed action, at any later time.

# Sets when the change undoes itself, from now on: by the wall clock, and by the time since this boot, which nobody sets.
set_deadline() {
    since=$(date +%s) confirm_by=$((since + confirm_within))
    machine_facts
    uptime_now
    [ -z "$uptime" ] || uptime=$((uptime + confirm_within))
    try write "$journal/until" "$confirm_by $since ${uptime:--} ${boot_id:--}"
}

uptime_now() {
    uptime=''
    uptime_file=./proc/uptime
    [ -r "$uptime_file" ] || uptime_file=/proc/uptime
    [ ! -r "$uptime_file" ] || read -r uptime rest <"$uptime_file" || :
    uptime=${uptime%%.*}
    is_number "$uptime" || uptime=''
}

# Sets $pending_step and when it ends; fails where nothing is pending.
read_pending() {
    pending_step='' pending_by=0 pending_since=0 pending_uptime=- pending_boot=-
    [ -f "$pending/request" ] || return 1
    while read -r key value; do
        [ "$key" != step ] || pending_step=$value
    done <"$pending/request"
    [ ! -f "$pending/until" ] || read -r pending_by pending_since pending_uptime pending_boot <"$pending/until" || :
}

# Within one boot only the time since the boot counts. After another one the wall clock does; one that shows a time from
# before the change proves nothing, and what nobody can prove to be in time is not.
is_overdue() {
    machine_facts
    uptime_now
    if [ -n "$uptime" ] && [ "$pending_uptime" != - ] && [ "$pending_boot" = "$boot_id" ]; then
        [ "$uptime" -ge "$pending_uptime" ]
    else
        now=$(date +%s)
        [ "$now" -ge "$pending_by" ] || [ "$now" -lt "$pending_since" ]
    fi
}

# is_receipt STEP TEXT: whether the step has a receipt that holds the text.
is_receipt() {
    read_receipt "$1" || return 1
    case $text in
        *"$2"*) return 0 ;;
    esac
    return 1
}

# read_receipt STEP: sets $text to its stored receipt. One that was cut short by a power loss, and so is no line, is none.
read_receipt() {
    slurp "$state/receipts/$1"
    [ -n "$text" ]
}

# Ends what no longer waits: confirmed before a crash, or overdue.
settle_pending() {
    read_pending || return 0
    if is_receipt "$pending_step" '"result":"confirmed"'; then
        make_final
    elif is_overdue; then
        undo_pending 'nobody confirmed it in time'
    fi
}

# undo_pending WHY [CLAIM]: puts the files from before the pending change back, as a fall-back does. CLAIM is
# `EPOCH FENCE STEP` of the revert that asked for it. Where nobody has to be answered this needs no space on the disk.
undo_pending() {
    write "$pending/failure" "unconfirmed - $1" 2>/dev/null
    { [ -z "${2-}" ] || try write "$pending/claim" "$2"; } &&
        { [ -f "$pending/expired" ] || try mv "$pending/until" "$pending/expired"; } && try mv "$pending" "$journal" ||
        refuse "$reason" "the unconfirmed change could not be undone: $detail"
    forget_request
    load_journal
    fall_back
    must_be_closed
}

# The revert that asked for an undo has a receipt of its own, stored before the one that ends the undo.
answer_claim() {
    own_epoch=$epoch own_fence=$fence own_step=$step own_reason=$reason own_detail=$detail
    read -r epoch fence step <"$journal/claim"
    reason='' detail=''
    build_receipt
    store_receipt
    epoch=$own_epoch fence=$own_fence step=$own_step reason=$own_reason detail=$own_detail
}

confirm() {
    admit_log
    if read_pending && [ "$pending_step" = "$step" ]; then
        admit_fence
        confirm_pending || decline failed "$reason" "$detail"
    fi
    answer_stored
    decline refused no-pending 'no change of this step waits for a confirmation'
}

# The receipt is the point of no return here too.
confirm_pending() {
    is_receipt "$step" '"result":"applied"' || { reason=unreadable detail='the receipt of this step is lost'; return 1; }
    text=${text%"$newline"}
    claim "$owner_generation" || return 1
    text="${text%%'"result":"applied"'*}\"result\":\"confirmed\"${text#*'"result":"applied"'}"
    rest=${text#*'"confirm_by":'}
    text="${text%%'"confirm_by":'*}\"confirm_by\":0${rest#"${rest%%[!0-9]*}"}"
    save "$state/receipts/$step" "$text" || return 1
    make_final
}

# May be repeated after a crash.
make_final() {
    keep_previous "$pending/old"
    flush_end
    mv "$pending" "$state/journal.done" && rm -rf "$state/journal.done"
}

# Lets this host count the time by itself, after the connection has ended: from before the files are placed, so that
# a node.sh that dies in the middle is seen to as well. A timer that is lost is made up for by the next verb.
start_timer() {
    set -- sh "$root${state#.}/node.sh" timer "$step" "$confirm_within"
    if [ -d ./run/systemd/system ] && find_program systemd-run &&
        "$program_path" --quiet --collect --unit="reconciler-confirm-$step" "$@" >/dev/null 2>&1 </dev/null 9>&-; then
        return 0
    fi
    ! command -v setsid >/dev/null 2>&1 || set -- setsid "$@"
    (trap - PIPE INT TERM && exec "$@") >/dev/null 2>&1 </dev/null 9>&- &
}

# --- Release ---------------------------------------------------------------------------------------------------------

# Gives the node back: with its baseline, or with the files as they are. Then no log owns it.
release() {
    read_owner
    if [ -z "$owner_log" ] && [ ! -d "$state/baseline" ]; then
        answer_released
        decline released '' ''
    fi
    admit
    if [ -d "$pending" ]; then
        undo_pending "the release $step came before a confirmation"
        verb=release
        take_request
        read_owner
    fi
    give_back
}

give_back() {
    if [ "$release" = keep ]; then
        owner_head=${log_head:-$owner_head}
        unit_state
        result=released
        finish
        [ -n "$result" ] || decline failed "$reason" "$detail"
        answer
    fi
    list_baseline
    plan_apply || decline "$result" "$reason" "$detail"
    carry_out extract_all
}

# A release that was finished is answered as it was, as long as nobody else took the node.
answer_released() {
    [ -f "$state/released" ] || return 0
    read -r receipt <"$state/released"
    case $receipt in
        *"\"step\":\"$step\",\"log_id\":\"$log_id\""*) answer ;;
    esac
}

list_baseline() {
    load_baseline
    IFS=$newline
    for line in ${baseline#"$newline"}; do
        IFS=' '
        want "${line%% *}" restore
    done
    IFS=' '
}

# The file `released` is the point of no return: its receipt, the stamp, then what becomes of the baseline.
finish_release() {
    generation=$owner_generation
    build_receipt
    json_stamp "$log_id" "$epoch" "$fence" "$step"
    save "$state/released" "$receipt$newline$stamp$newline$release" || { result=''; return 0; }
    flush "$state"
    retire
}

# Takes away what makes the node ours; may be repeated after a crash. A baseline that was not restored holds the only
# copies of the host's own files: it is kept aside. A hold is the operator's, and stays.
retire() {
    [ -f "$state/owner" ] || [ -d "$state/baseline" ] || return 0
    release=$(tail -n 1 "$state/released")
    if [ -d "$state/baseline" ] && [ "$release" = keep ]; then
        # a disk that cannot take it: the next verb tries again
        try mkdir -p "$state/archive" && try mv "$state/baseline" "$state/archive/$(date +%s)" || return 0
    fi
    rm -rf "$state/previous" "$state/receipts" "$pending" "$journal" "$state/staging" "$state/baseline"
    rm -f "$state/owner"
    flush "$state"
}

# --- The end of a step, and unfinished ones --------------------------------------------------------------------------

# The stored receipt is the point of no return: from here on the step counts as finished.
finish() {
    if [ "$result" = released ]; then
        finish_release
        return 0
    fi
    case $result in
        applied) generation=$((owner_generation + 1)) ;;
        reverted)
            generation=$owner_generation
            [ "$verb" != revert ] && [ "$verb" != host-revert ] || generation=$((owner_generation + 1))
            ;;
        *) generation=$owner_generation ;;
    esac
    owner_before=$owner_generation owner_generation=$generation
    build_receipt
    [ -d "$state/receipts" ] || try mkdir "$state/receipts"
    claimed=no
    if [ -f "$journal/claim" ]; then
        :
    elif is_claimed "$generation" "$step"; then
        claimed=yes
    elif write_claim "$state/owner.new" "$generation" "$step"; then
        claimed=aside
    fi
    owner_generation=$owner_before
    store_receipt
    conclude "$generation"
    prune_receipts
}

# The first receipt of a step is written where it is to stand: one that is cut short counts for nothing. An older receipt
# must not outlive what it says, not even on a full disk.
store_receipt() {
    stored=$state/receipts/$step other=$state/owner.new
    [ "$claimed" = aside ] || other=''
    if [ ! -f "$stored" ] && attempt write "$stored" "$receipt"; then
        flush "$stored" $other
    else
        save "$stored" "$receipt" $other || { rm -f "$stored" "$stored.new" && save "$stored" "$receipt"; } || :
    fi
}

# conclude GENERATION: may be repeated after a crash.
conclude() {
    ending=close_journal stamp_before=''
    if [ "$1" = "$owner_generation" ]; then
        [ -f "$journal/expired" ] || stamp_before=$journal/owner
    elif [ -f "$journal/until" ]; then
        ending=keep_pending
    else
        keep_previous "$journal/old"
    fi
    [ ! -f "$journal/claim" ] || read -r epoch fence step <"$journal/claim"
    case $claimed in
        yes) ;;
        aside) place_claim || put_stamp_back ;;
        no) claim "$1" "$step" || put_stamp_back ;;
    esac
    flush_end
    [ ! -d "$journal" ] || "$ending"
}

# Where a full disk takes no new stamp, the one from before a change that was undone is true but for its step.
put_stamp_back() {
    [ ! -f "$stamp_before" ] || mv -f "$stamp_before" "$state"
}

flush_end() {
    set -- "$state/receipts" "$state"
    [ ! -d "$state/previous" ] || set -- "$@" "$state/previous"
    flush "$@"
}

# keep_previous OLD: what was replaced last is what can be put back. Files of the same names are replaced one by one, the
# plan behind those that it lists. May be repeated after a crash.
keep_previous() {
    [ -d "$1" ] || return 0
    [ ! -d "$state/previous" ] || outdates_previous "$1" || rm -rf "$state/previous"
    if [ ! -d "$state/previous" ]; then
        mv "$1" "$state/previous"
        return 0
    fi
    set +f
    set -- "$1"/*
    set -f
    [ ! -e "$1" ] || mv -f "$@" "$state/previous"
}

# outdates_previous OLD: whether it has all files that `previous` has, so that none of an older change would be left.
outdates_previous() {
    [ -f "$1/plan" ] || return 0 # that was seen to before a crash
    slurp "$1/plan"
    set +f
    set -- "$state"/previous/[0-9]*
    set -f
    for kept; do
        case $newline$text in
            *"$newline${kept##*/} write "*) ;;
            *) return 1 ;;
        esac
    done
}

keep_pending() {
    mv "$journal" "$pending" && flush "$state"
}

# The 64 newest stay; the others go together, so that few changes have to sort them.
prune_receipts() {
    set +f
    set -- "$state"/receipts/*
    set -f
    [ $# -gt 80 ] || return 0
    set --
    IFS=$newline
    for name in $(ls -t "$state/receipts" | tail -n +65); do set -- "$@" "$state/receipts/$name"; done
    IFS=' '
    rm -f "$@"
}

# Finishes or undoes what an earlier call left behind.
recover() {
    [ -d "$state" ] && ! managed_by_mco || return 0
    [ ! -f "$state/released" ] || retire
    # journal.new: of older programs
    for left in "$state/staging/journal" "$state/journal.new" "$state/journal.done"; do
        [ ! -d "$left" ] || rm -rf "$left" 2>/dev/null
    done
    requested=$verb
    if [ -f "$journal/request" ]; then end_journal; elif [ -d "$journal" ]; then close_journal; fi
    must_be_closed
    [ ! -d "$pending" ] || settle_pending
    verb=$requested
}

must_be_closed() {
    [ ! -f "$journal/request" ] || refuse "${reason:-write-failed}" "an unfinished change could not be ended: $detail"
}

# A stored receipt ends a step; one that says `applied` does not end the undoing of that step.
is_finished() {
    read_receipt "$step" || return 1
    [ "$phase" = reverting ] || return 0
    case $text in
        *'"result":"applied"'*) return 1 ;;
    esac
}

end_journal() {
    load_journal
    if is_finished; then
        case $text in
            *'"generation":'"$((owner_generation + 1)),"*) conclude "$((owner_generation + 1))" ;;
            *) conclude "$owner_generation" ;;
        esac
    else
        case $phase in
            placed) act_and_settle ;;
            acted) settle ;;
            reverting) fall_back ;;
            *) undo ;;
        esac
    fi
}

load_journal() {
    read_owner
    verb='' actions='' paths='' phase='' acted=ok action=''
    slurp "$journal/checks"
    checks=$text
    while read -r key value; do
        case $key in
            confirm) confirm_within=$value ;;
            release) release=$value ;;
            verb) verb=$value ;;
            log_id) log_id=$value ;;
            epoch) epoch=$value ;;
            fence) fence=$value ;;
            step) step=$value ;;
            runtime) runtime=$value ;;
            actions) actions=$value ;;
        esac
    done <"$journal/request"
    read -r owner_generation <"$journal/generation"
    while read -r first second third; do phase=$first acted=${second:-ok} action=$third; done <"$journal/state"
    [ ! -f "$journal/expired" ] || phase=reverting
    [ ! -f "$journal/old/paths" ] || paths=$(tr '\n' ' ' <"$journal/old/paths")
    [ ! -f "$journal/new/plan" ] || list_changed
}

list_changed() {
    IFS=$newline
    for line in $(cat "$journal/new/plan"); do
        IFS=' '
        case $line in
            *' file '*) written="$written${written:+ }${line##* }" ;;
            *) restored="$restored${restored:+ }${line##* }" ;;
        esac
    done
    IFS=' '
}

# Back to the generation before. The runtime knows nothing yet, unless the host was started again meanwhile.
undo() {
    place old || return 0
    machine_facts
    read -r staged_boot <"$journal/boot" || staged_boot=''
    if [ -n "$todo" ] && [ "$staged_boot" != "$boot_id" ]; then act; fi
    take_back
}

# The old files stand, and nobody was told of others: as if the change had never been begun, but that its request was seen.
take_back() {
    remove_late old
    [ ! -f "$journal/owner" ] || { attempt mv -f "$journal/owner" "$state" && flush "$state"; } || :
    close_journal
}

# --- Looking at files ------------------------------------------------------------------------------------------------

# survey PATH…: sets $surveyed to one line `KIND SHA256 MODE UID GID SIZE MTIME PATH` per path, in order.
survey() {
    turns=0
    until survey_once "$@"; do
        turns=$((turns + 1))
        [ "$turns" -lt 3 ] || { detail='a file could not be read'; return 1; }
    done
}

survey_once() {
    kinds='' seen='' surveyed=''
    for path; do
        shift
        kind_of ".$path"
        kinds="$kinds$kind $path$newline"
        [ "$kind" != file ] || set -- "$@" ".$path"
    done
    if [ $# -gt 0 ]; then
        seen=$(stat -c '%a %u %g %s %Y' "$@" 2>/dev/null && sha256sum "$@" 2>/dev/null) || return 1
    fi
    # stats first, sums after them: what belongs to the first file left stands at $1 and right after the stats
    IFS=$newline
    at=$(($# + 1))
    set -- $seen
    for entry in $kinds; do
        IFS=' '
        case $entry in
            file\ *)
                eval "sum=\${$at}"
                line_of "${sum%% *}" $1
                shift
                ;;
            *) surveyed="$surveyed${entry%% *} - 0000 0 0 0 0 ${entry#* }$newline" ;;
        esac
    done
    IFS=' '
}

# line_of SHA256 MODE UID GID SIZE MTIME
line_of() {
    mode=$2
    while [ "${#mode}" -lt 4 ]; do mode=0$mode; done
    surveyed="${surveyed}file $1 $mode $3 $4 $5 $6 ${entry#* }$newline"
}

kind_of() {
    if [ -L "$1" ] || is_behind_link "$1"; then
        kind=symlink
    elif [ -f "$1" ]; then
        kind=file
    elif [ -d "$1" ]; then
        kind=directory
    elif [ -e "$1" ]; then
        kind=other
    else
        kind=absent
    fi
}

# In a home its user decides where a link leads: nothing is read through one.
is_behind_link() {
    above=$1 top=${1%%/.config/containers/*}
    [ "$top" != "$1" ] || return 1
    until [ "$above" = "$top/.config" ]; do
        above=${above%/*}
        [ ! -L "$above" ] || return 0
    done
    return 1
}

# Sets $manifest: SHA-256 over `STATE MODE PATH` lines sorted by path; STATE is the hash, or the kind.
manifest_of_survey() {
    lines='' sorted=yes last=''
    IFS=$newline
    for line in $surveyed; do
        IFS=' '
        add_state $line
    done
    IFS=' '
    if [ -n "$foreseen_manifest" ] && [ "$lines" = "$foreseen" ]; then
        manifest=$foreseen_manifest
    elif is_as_left; then
        manifest=${text%%"$newline"*}
    elif [ "$sorted" = yes ]; then
        manifest=$(printf '%s' "$lines" | sha256sum)
    else
        manifest=$(printf '%s' "$lines" | sort -k3,3 | sha256sum)
    fi
    manifest=${manifest%% *}
}

# Whether the files are as the last change left them; their manifest was reckoned then, and is the first line of $text.
is_as_left() {
    slurp "$state/previous/states"
    [ "${text#*"$newline"}" = "$lines" ] && [ -n "$lines" ]
}

add_state() {
    [ "$last" \< "$8" ] || sorted=no
    last=$8
    [ "$1" = file ] && lines="$lines$2 $3 $8$newline" || lines="$lines$1 0000 $8$newline"
}

# --- Answers ---------------------------------------------------------------------------------------------------------

# Sets $receipt: at most 4096 bytes; the lists of paths are cut to fit.
build_receipt() {
    quote "$action"
    action_quoted=$quoted
    quote "$detail"
    detail_quoted=$quoted manifest=''
    survey $paths && manifest_of_survey
    machine_facts
    [ -n "$unit" ] || unit_state
    head="{\"protocol\":1,\"result\":\"$result\",\"step\":\"$step\",\"log_id\":\"$log_id\",\"epoch\":$epoch"
    head="$head,\"fence\":$fence,\"generation\":$owner_generation,\"machine_id\":\"$machine_id\""
    head="$head,\"boot_id\":\"$boot_id\",\"manifest\":\"$manifest\",\"check\":\"$failed_check\""
    head="$head,\"confirm_by\":$confirm_by"
    tail=",\"unit\":\"$unit\",\"active\":\"$active\",\"healthy_before\":$healthy_before,\"loaded\":$loaded"
    tail="$tail,\"action\":\"$action_quoted\",\"reason\":\"$reason\",\"detail\":\"$detail_quoted\"}"
    room=$((4096 - ${#head} - ${#tail} - 64)) more=0
    fit $written
    written_json=$fitted
    fit $restored
    receipt="$head,\"written\":[$written_json],\"restored\":[$fitted],\"more\":$more$tail"
}

# fit PATH…: as many as there is $room for; counts the others in $more.
fit() {
    fitted=''
    for path; do
        if [ $((${#path} + 3)) -le "$room" ]; then
            fitted="$fitted${fitted:+,}\"$path\"" room=$((room - ${#path} - 3))
        else
            more=$((more + 1)) room=0
        fi
    done
}

# quote TEXT: sets $quoted, fit for a JSON string: cut, control characters as blanks, bytes above 127 as they are.
quote() {
    text=$1
    case $text in
        *[!\ -~]*) text=$(printf '%s' "$text" | tr '\000-\037\177' ' ') ;;
    esac
    [ "${#text}" -le 300 ] || text=$(printf '%s' "$text" | head -c 300)
    quoted=''
    while :; do
        case $text in
            *[\\\"]*) ;;
            *) break ;;
        esac
        plain=${text%%[\\\"]*}
        text=${text#"$plain"}
        after=${text#?}
        quoted="$quoted$plain\\${text%"$after"}"
        text=$after
    done
    quoted=$quoted$text
}

# --- For an operator on the host -------------------------------------------------------------------------------------

operator() {
    verb=$1
    case $0 in
        */var/lib/reconciler/node.sh) root=${0%/var/lib/reconciler/node.sh} ;;
        *) root='' ;;
    esac
    shift
    by_operator=yes
    enter_root
    [ -d "$state" ] || [ "$verb" = hold ] || fail 'nothing was ever changed here'
    case $verb in
        status) operator_status ;;
        baseline) operator_baseline ;;
        timer) operator_timer "$@" ;;
        *) operator_write "$@" ;;
    esac
}

fail() {
    printf 'node.sh: %s\n' "$1" >&2
    exit 1
}

operator_status() {
    read_owner
    runtime=crio
    unit_state
    printf 'log         %s\n' "${owner_log:-none}"
    printf 'generation  %s (step %s, epoch %s, fence %s)\n' "$owner_generation" "${owner_step:-none}" "$owner_epoch" \
        "$owner_fence"
    printf 'log head    #%s %s\n' "${owner_head%% *}" "${owner_head#* }"
    printf 'hold        %s\n' "$([ ! -f "$state/hold" ] && printf none || head -n 1 "$state/hold")"
    phase=none
    [ ! -f "$journal/state" ] || phase=$(tail -n 1 "$journal/state")
    printf 'unfinished  %s\n' "$phase"
    ! read_pending || printf 'pending     %s: undone at %s unless confirmed\n' "$pending_step" \
        "$(date -u -d "@$pending_by" '+%Y-%m-%d %H:%M:%S UTC' 2>/dev/null || printf '%s s since 1970' "$pending_by")"
    printf 'crio        %s\n' "${active:-cannot tell}"
    managed_by_mco && mco='yes: nothing is written' || mco=no
    printf 'MCO         %s\n' "$mco"
}

operator_baseline() {
    [ -f "$state/baseline/manifest" ] || fail 'no baseline: no file was ever written here'
    while read -r path kind sha mode owner group; do
        case $kind in
            file) printf '%s\t%s %s:%s\t%s\n' "$path" "$mode" "$owner" "$group" "${state#.}/baseline/files$path" ;;
            *) printf '%s\tabsent\n' "$path" ;;
        esac
    done <"$state/baseline/manifest"
}

operator_write() {
    make_state && lock || fail "$reason: $detail"
    trap '' PIPE HUP INT TERM
    case $verb in
        hold)
            [ -n "${1-}" ] || fail 'give a reason: node.sh hold REASON'
            save "$state/hold" "$*" || fail "$reason: $detail"
            flush "$state"
            printf 'held: no file is written on this host until: sh %s/node.sh resume\n' "${state#.}"
            ;;
        resume)
            rm -f "$state/hold"
            printf 'resumed\n'
            ;;
        *)
            managed_by_mco && fail 'the Machine Config Operator manages this host'
            recover
            operator_request
            "operator_$verb" "$@"
            ;;
    esac
}

# The variables of a request that comes from this host itself.
operator_request() {
    asked=$verb
    read_owner
    forget_request
    last=$state/previous/request
    [ ! -f "$pending/request" ] || last=$pending/request
    [ ! -f "$last" ] || while read -r key value; do
        case $key in
            runtime) runtime=$value ;;
            actions) actions=$value ;;
        esac
    done <"$last"
    verb=$asked log_id=$owner_log epoch=$owner_epoch fence=$owner_fence step=host-$(date +%s)-$$
}

operator_revert() {
    [ -f "$state/previous/plan" ] || [ -d "$pending" ] || fail 'no generation before this one is kept'
    verb=host-revert
    printf 'The service puts its files back at its next check, unless this host is held.\n' >&2
    revert
}

operator_confirm() {
    read_pending || fail 'no change waits for a confirmation'
    step=$pending_step
    confirm_pending || fail "$reason: $detail"
    printf 'confirmed: %s\n' "$step"
}

# For a cloned disk, or a log that is lost.
operator_release() {
    case ${1-} in
        '' | --restore) ;;
        *) fail 'say: node.sh release [--restore]' ;;
    esac
    [ -n "$owner_log" ] || [ -d "$state/baseline" ] || fail 'no log owns this host'
    if [ -d "$pending" ]; then
        undo_pending 'this host was released'
        verb=release
        operator_request
    fi
    [ -n "${1-}" ] && release=restore || release=keep
    # what is restored may be anything that was ever written: the runtime is told in any case
    [ "$runtime" != crio ] || [ -z "$systemctl" ] || actions=reload:crio.service
    give_back
}

# operator_timer STEP SECONDS: waits as long as the step is unfinished or pending, and undoes it when it is overdue.
operator_timer() {
    turn=$(($2 / 10)) waited=0
    [ "$turn" -ge 1 ] || turn=1
    [ "$turn" -le 5 ] || turn=5
    while is_awaited "$journal" "$1" || is_awaited "$pending" "$1"; do
        sleep "$turn"
        waited=$((waited + turn))
        (
            ! [ -d "$journal" ] || [ "$waited" -gt "$2" ] || exit 0
            [ -d "$journal" ] || { read_pending && is_overdue; } || exit 0
            trap '' PIPE HUP INT TERM
            lock && recover
        )
    done
}

is_awaited() {
    [ -f "$1/request" ] && case $newline$(cat "$1/request" 2>/dev/null)$newline in
        *"${newline}step $2$newline"*) return 0 ;;
    esac
    return 1
}

main "$@"
