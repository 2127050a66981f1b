# What ci/setup and ci/images/build both need to know about Debian's mirrors. Sourced, not run.

# Every address in this machine's own apt sources.
apt_sources() {
  cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null |
    sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] *)?([^ ]+).*/\2/p'
}

# The mirror that this machine's own apt sources use.
mirror() {
  apt_sources | grep -E '/debian/*$' | head -n 1 || true
}

# The mirror of the security updates, which not every machine uses.
security_mirror() {
  apt_sources | grep -E '/debian-security/*$' | head -n 1 || true
}
