# Says where programs are in an image. Arguments: folders outside of PATH as patterns in one argument, and then the
# names of the programs; the first one is asked for its version. One line each, with tabs: `first PATH VERSION` for
# each place of the first, and `other NAME PATH` for the others.
patterns=$1
first=$2
shift 2
newline='
'
tab=$(printf '\t')
real() { readlink -f "$1" 2>/dev/null || echo "$1"; }

IFS=:
set -f
# shellcheck disable=SC2086
folders=$(for folder in $PATH; do echo "$folder"; done)
set +f
IFS=' '
# shellcheck disable=SC2086
folders=$folders$newline$(for folder in $patterns; do [ ! -d "$folder" ] || echo "$folder"; done)

IFS=$newline
for folder in $folders; do
  [ -f "$folder/$first" ] && [ -x "$folder/$first" ] || continue
  path=$(real "$folder/$first")
  said=$("$path" --version </dev/null 2>/dev/null)
  # Some begin with an empty line.
  said=${said#"$newline"}
  echo "first$tab$path$tab${said%%"$newline"*}"
done
for name in "$@"; do
  for folder in $folders; do
    [ -f "$folder/$name" ] && [ -x "$folder/$name" ] || continue
    echo "other$tab$name$tab$(real "$folder/$name")"
  done
done
echo "done"
