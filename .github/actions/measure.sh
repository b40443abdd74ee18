# The step `measure` of action.yml: what was asked for is in the environment, nothing of it is pasted into a script.
# Ends with 0 whatever came of it: the exit code is a file and an output, so that the steps after it keep and say it.
set -euo pipefail

refuse() {
  echo "::error title=f5bench::$1"
  exit 2
}

[[ "$NAME" =~ ^[a-z0-9][a-z0-9_.-]{0,39}$ ]] || refuse "name=$NAME: small letters, digits, dots, dashes, at most 40"
[[ "$QUALITY" == false || -z "$FUNCTION$BASELINE" ]] || refuse "quality=true: is for engines; leave out function and baseline"
[[ -z "$FUNCTION" || -z "$BASELINE" ]] || refuse "baseline=$BASELINE: a function has none; use one of the two"
[[ -n "$FUNCTION$BASELINE$BEFORE$AFTER" ]] || refuse "before, after: say what is compared, or give function or baseline"

folder="$RUNNER_TEMP/f5bench/f5bench-$NAME"
rm -rf "$folder"
mkdir -p "$folder"
echo "folder=$folder" >> "$GITHUB_OUTPUT"
code=0

# One KEY=VALUE a line; empty lines and comments are none
lines() {
  sed -e 's/^[[:space:]]*//' -e 's/[[:space:]]*$//' -e '/^$/d' -e '/^#/d' <<< "$1"
}

# What went wrong stays; what is not known gives way to it
measured() {
  local ended=0
  "$F5BENCH" "$@" || ended=$?
  case "$code/$ended" in
    0/* | 11/1[0234] | 11/[12] | 11/130 | 12/1[034] | 12/[12] | 12/130) code=$ended ;;
  esac
}

mapfile -t before < <(lines "$BEFORE")
mapfile -t after < <(lines "$AFTER")
mapfile -t settings < <(lines "$SETTINGS")
mapfile -t limits < <(lines "$LIMITS")

if [ -n "$FUNCTION" ]; then
  # The commit that the change starts from, and the change: of a pull request, or of the last commit
  if [[ "$BEFORE$AFTER" != *revision=* && "$BEFORE$AFTER" != *repository=* ]]; then
    head="${HEAD:-$(git rev-parse HEAD)}"
    if [ -n "$BASE" ]; then base="$(git merge-base "$BASE" "$head")"; else base="$(git rev-parse "$head~1")"; fi
    before+=("revision=$base")
    after+=("revision=$head")
  fi
  measured compare-functions function="$FUNCTION" "${settings[@]}" "${before[@]/#/reference.}" \
    "${after[@]/#/candidate.}" "${limits[@]}" out="$folder/speed"
elif [ -n "$BASELINE" ]; then
  measured gate "$BASELINE" --records "$RECORDS" "${settings[@]}" "${limits[@]}" tracking=none out="$folder/gate"
else
  measured compare "${settings[@]}" "${before[@]/#/reference.}" "${after[@]/#/candidate.}" "${limits[@]}" \
    tracking=none out="$folder/speed"
fi

if [ "$QUALITY" != false ]; then
  mapfile -t scored < <(lines "$QUALITY_SETTINGS")
  measured run "${settings[@]}" "${before[@]}" "${scored[@]}" tracking=none out="$folder/runs/before"
  measured run "${settings[@]}" "${after[@]}" "${scored[@]}" tracking=none out="$folder/runs/after"
  measured quality-gate "$folder/runs/before" "$folder/runs/after" preset="$QUALITY_PRESET" out="$folder/quality"
fi

echo "$code" > "$folder/exit_code.txt"
echo "$PULL_REQUEST" > "$folder/pull_request.txt"
echo "code=$code" >> "$GITHUB_OUTPUT"
