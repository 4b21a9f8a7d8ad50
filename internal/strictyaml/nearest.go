package strictyaml

import "strings"

// Nearest returns the candidate with the fewest edits from s, or "" when even
// that one is more than a third of its length away.
func Nearest(s string, candidates []string) string {
	best, fewest := "", 0
	for _, c := range candidates {
		n := edits(strings.ToLower(s), c)
		if n <= max(len(c)/3, 1) && (best == "" || n < fewest) {
			best, fewest = c, n
		}
	}
	return best
}

// edits is the number of letters inserted, left out, replaced or swapped with
// their neighbour between two ASCII words (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
