package ceremony

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed templates
var templates embed.FS

// Scaffold returns the commented file of a founding ceremony to be filled in:
// "tiers-2", the default, "tiers-3" or "manufacturer".
func Scaffold(name string) (string, error) {
	var text strings.Builder
	for _, part := range []string{"head.txt", name + ".yaml"} {
		b, err := templates.ReadFile("templates/" + part)
		if err != nil {
			return "", fmt.Errorf("there is no scaffold %q: want --tiers 2, --tiers 3 or --example manufacturer", name)
		}
		text.Write(b)
	}
	return text.String(), nil
}
