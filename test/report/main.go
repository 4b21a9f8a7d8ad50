// Command report reads the output of `go test -json` and prints what `go test`
// would, then every skipped test with its reason. It exits 1 if anything failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// event is the part of a test2json event that matters here.
type event struct{ Action, Package, ImportPath, Test, Output string }

func main() {
	output := map[string][]string{}
	var skips []string
	failed := false
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed = true
		case "output":
			if e.Test == "" && (strings.HasPrefix(e.Output, "ok") || strings.HasPrefix(e.Output, "FAIL\t")) {
				fmt.Print(e.Output)
			}
			output[key] = append(output[key], e.Output)
		case "fail":
			failed = true
			fmt.Print(strings.Join(output[key], ""))
		case "skip":
			if e.Test != "" {
				skips = append(skips, e.Package+" "+e.Test+": "+reason(output[key]))
			}
		}
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			delete(output, key)
		}
	}
	if len(skips) > 0 {
		fmt.Printf("\nskipped (%d):\n  %s\n", len(skips), strings.Join(skips, "\n  "))
	}
	if failed {
		os.Exit(1)
	}
}

// reason is what the test said when it skipped.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, " ")
}
