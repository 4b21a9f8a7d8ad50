package config

import (
	"errors"
	"maps"
	"slices"

	"github.com/privyseal/privyseal/internal/profile"
)

// CompileProfiles compiles the built-in profiles and the configured ones. That of
// roots is for ceremonies and is left out.
func (f *File) CompileProfiles() (map[string]*profile.Profile, error) {
	configs := profile.BuiltIn()
	maps.Copy(configs, f.Profiles)
	compiled := map[string]*profile.Profile{}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		p, err := profile.Compile(name, configs[name])
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if name != rootProfile {
			compiled[name] = p
		}
	}
	return compiled, errors.Join(wrong...)
}

// rootProfile is the profile of self-signed CAs.
const rootProfile = "root-ca"
