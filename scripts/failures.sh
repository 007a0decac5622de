#!/usr/bin/env bash
# Prints what failed in the output of a step, short enough to be its last lines: at most
# fourteen, of at most 170 bytes. Of go test, with -v or without: tests that failed, with the
# begin and the end of what they say, panics, races, and what did not compile; of anything
# else its last lines, without frames of stacks. Usage: scripts/failures.sh LOG
set -euo pipefail
LC_ALL=C awk -v most=14 -v width=170 '
	function add(block, line) { if (line ~ /[^[:space:]]/) said[block, ++length_of[block]] = line }
	function open_block(title) { blocks[++n] = title; into = title; return title }
	function cut(line) { gsub(/\t/, "    ", line); return length(line) > width ? substr(line, 1, width - 2) ".." : line }
	{ last[NR] = $0 }
	/^=== (RUN|NAME|CONT|PAUSE)/ { into = $3; next }
	/^ *--- (PASS|SKIP): / { into = ""; next }
	/^ *--- FAIL: / { into = $3; if (!(into in failed)) { failed[into] = 1; blocks[++n] = into } next }
	/^(panic: |fatal error: |unexpected fault|WARNING: DATA RACE|SIGQUIT|ThreadSanitizer: CHECK)/ && !(into in failed) { open_block($0) ; next }
	/^# / { open_block($0); next }
	/^FAIL\t/ {
		for (i = packaged + 1; i <= n; i++) where[blocks[i]] = $2
		if (n == packaged && !($2 in failed)) { failed[$2] = 1; blocks[++n] = $2 }
		packaged = n; into = ""; next
	}
	/^(ok|\?|PASS|FAIL)([[:space:]]|$)/ || /^(exit status|coverage:|=+$)/ { into = ""; next }
	{ add(into, $0) }
	END {
		# A test whose part failed has often nothing to say itself.
		for (i = 1; i <= n; i++)
			if (blocks[i] in length_of || !has_part(blocks[i])) shown[++s] = blocks[i]
		if (s == 0) {
			for (i = NR; i > 0 && kept < most; i--)
				if (last[i] ~ /[^[:space:]]/ && last[i] !~ /^[[:space:]]+(at |\.\.\. [0-9]+ more)/) tail[++kept] = last[i]
			for (i = kept; i > 0; i--) print cut(tail[i])
			exit
		}
		listed = s > most / 2 ? int(most / 2) : s
		each = int((most - (listed < s)) / listed) - 1
		for (i = 1; i <= listed; i++) {
			b = shown[i]
			print cut((b in failed ? "--- FAIL: " : "") b (b in where && where[b] != b ? " (" where[b] ")" : ""))
			lines = length_of[b]
			begin = lines <= each ? lines : int((each + 1) / 2)
			for (j = 1; j <= begin; j++) print cut(said[b, j])
			for (j = lines - (each - begin) + 1; j <= lines; j++) if (j > begin) print cut(said[b, j])
		}
		if (listed < s) print "and " s - listed " more"
	}
	function has_part(name,   other) {
		for (other in failed) if (index(other, name "/") == 1) return 1
		return 0
	}
' "$1"
