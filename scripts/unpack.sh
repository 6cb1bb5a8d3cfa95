# Sourced by scripts/shader-tools and scripts/mesa: unpacks Debian packages, with everything they
# need, into a private folder. Nothing is installed and root is not needed.
#
# The mirror is the one this machine's apt is set up with; apt checks the signatures against
# Debian's own keyring, with its state in the folder.

unpack_name=$(basename "$0")

fail() {
    echo "$unpack_name: $*" >&2
    exit 1
}

# unpack_packages FOLDER SUITES SKIP PACKAGE...
# Fetches PACKAGEs and all they depend on from SUITES (blank-separated; the last one wins) and
# unpacks them into FOLDER/unpacked, but for those whose names match the regular expression SKIP.
unpack_packages() {
    local folder=$1 suites=$2 skip=$3
    shift 3
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ $(dpkg --print-architecture) == amd64 ]] || fail "only amd64 is supported"
    [[ -r $keyring ]] || fail "$keyring is missing; install the package debian-archive-keyring"

    local apt=$folder/apt log=$folder/apt/log
    rm -rf "$folder/unpacked" "$apt"
    mkdir -p "$folder/unpacked" "$apt"/{lists,archives}/partial
    : >"$apt/status" # nothing counts as installed, so every dependency is fetched
    local options=(
        -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
        -o "Dir::State::extended_states=$apt/extended_states"
        -o "Dir::Cache::archives=$apt/archives"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::Log=- -o Acquire::Languages=none -o APT::Update::Error-Mode=any
        -o APT::Install-Recommends=false -o "APT::Default-Release=${suites##* }"
    )
    if ((EUID == 0)); then
        options+=(-o APT::Sandbox::User=root) # _apt may not be able to enter the folder
    fi

    # Every archive that apt here is set up for, except those that hold no whole release.
    local mirrors mirror suite found=
    mapfile -t mirrors < <(
        apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
            'Created-By: Packages' |
            awk '$3 == "main" && $2 !~ /-/ && $1 !~ /^cdrom:/ && !seen[$1]++ { print $1 }'
    )
    ((${#mirrors[@]})) || fail "apt has no Debian archive in its sources (/etc/apt/sources.list*)"
    for mirror in "${mirrors[@]}"; do
        for suite in $suites; do
            echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite main"
        done >"$apt/sources.list"
        if apt-get "${options[@]}" update >>"$log" 2>&1; then
            found=$mirror
            break
        fi
    done
    if [[ -z $found ]]; then
        tail -n 20 "$log" >&2
        fail "none of this machine's apt sources has a signed $suites;" \
            "if the signature is the trouble, update the package debian-archive-keyring"
    fi

    if ! apt-get "${options[@]}" install --yes --download-only "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "could not fetch $*"
    fi
    local package
    for package in "$apt"/archives/*.deb; do
        if [[ -z $skip || ! $(basename "$package") =~ ^($skip)_ ]]; then
            dpkg-deb --extract "$package" "$folder/unpacked"
        fi
    done
    # What packages bring along that nothing here opens (an interpreter for one script, mostly).
    rm -rf "$folder"/unpacked/{etc,var,usr/lib/python3*,usr/share/{doc,man,locale,zoneinfo}}
    rm -rf "$apt/archives" "$apt/lists"
}
