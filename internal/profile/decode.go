package profile

import (
	"fmt"

	"github.com/goccy/go-yaml"
)

// Decode reads one profile from YAML, strictly: an unknown key is an error that
// names its line and column. Compile finds the mistakes in the values.
func Decode(text []byte) (c Config, err error) {
	// The decoder panics on some texts that are hardly YAML, such as a list that
	// consists of nothing but a tag ("fields: !x"); to whoever wrote the file that
	// is a mistake in the file.
	defer func() {
		if p := recover(); p != nil {
			c, err = Config{}, fmt.Errorf("decode profile: not YAML that can be read: %v", p)
		}
	}()
	if err := yaml.UnmarshalWithOptions(text, &c, yaml.Strict()); err != nil {
		return Config{}, fmt.Errorf("decode profile: %w", err)
	}
	return c, nil
}
