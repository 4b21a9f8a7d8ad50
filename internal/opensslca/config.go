package opensslca

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// config is an openssl.cnf: values by section and name, variables not expanded.
// Of its grammar (config(5)) it knows sections, assignments, comments, quotes,
// continued lines and $variables; .include and the environment it does not read.
type config map[string]map[string]string

const (
	maxConfig = 1 << 20
	maxDepth  = 8 // of variables in variables
	bare      = "default"
)

func parseConfig(text []byte) (config, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("openssl.cnf: longer than %d octets", maxConfig)
	}
	c := config{}
	section, held := bare, ""
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if rest, more := strings.CutSuffix(line, `\`); more {
			held += rest
			continue
		}
		line, held = strings.TrimSpace(uncomment(held+line)), ""
		switch {
		case line == "" || line[0] == '.':
			continue
		case line[0] == '[':
			name, _, ok := strings.Cut(line[1:], "]")
			if section = strings.TrimSpace(name); !ok || section == "" {
				return nil, fmt.Errorf("openssl.cnf line %d: a section has the form [ name ]", n)
			}
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("openssl.cnf line %d: want name = value", n)
		}
		in := section
		if s, rest, other := strings.Cut(name, "::"); other {
			in, name = strings.TrimSpace(s), rest
		}
		if c[in] == nil {
			c[in] = map[string]string{}
		}
		c[in][strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return c, nil
}

// uncomment cuts a line at a # that is neither quoted nor escaped.
func uncomment(line string) string {
	var quote byte
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'' || c == '`':
			quote = c
		case c == '#':
			return line[:i]
		}
	}
	return line
}

// raw returns a value as it is written; those of the section "default" hold
// everywhere.
func (c config) raw(section, name string) (string, bool) {
	if v, ok := c[section][name]; ok {
		return v, true
	}
	v, ok := c[bare][name]
	return v, ok
}

// value returns a value with quotes and variables resolved, "" if it is not there.
func (c config) value(section, name string) (string, error) {
	v, ok := c.raw(section, name)
	if !ok {
		return "", nil
	}
	v, err := c.expand(section, v, maxDepth)
	if err != nil {
		return "", fmt.Errorf("openssl.cnf: [ %s ] %s: %w", section, name, err)
	}
	return v, nil
}

func (c config) expand(section, text string, depth int) (string, error) {
	if depth == 0 {
		return "", fmt.Errorf("variables are nested more than %d deep", maxDepth)
	}
	var b strings.Builder
	var quote byte
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case quote != 0 && ch == quote:
			quote = 0
		case quote == 0 && (ch == '"' || ch == '\'' || ch == '`'):
			quote = ch
		case ch == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case ch == '$' && quote != '\'':
			name, length := variable(text[i+1:])
			v, err := c.variable(section, name, depth)
			if err != nil {
				return "", err
			}
			if b.Len()+len(v) > maxLine {
				return "", fmt.Errorf("longer than %d octets", maxLine)
			}
			b.WriteString(v)
			i += length
		default:
			b.WriteByte(ch)
		}
	}
	return b.String(), nil
}

// variable returns the name at the beginning of what follows a $, and how many
// octets spell it: name, {name} or (name).
func variable(s string) (name string, length int) {
	for open, closing := range map[string]string{"{": "}", "(": ")"} {
		if strings.HasPrefix(s, open) {
			if name, _, ok := strings.Cut(s[1:], closing); ok {
				return name, len(name) + 2
			}
		}
	}
	for length < len(s) && (s[length] == '_' || s[length] == ':' || s[length] >= '0' && s[length] <= '9' ||
		s[length]|0x20 >= 'a' && s[length]|0x20 <= 'z') {
		length++
	}
	return s[:length], length
}

func (c config) variable(section, name string, depth int) (string, error) {
	if s, rest, other := strings.Cut(name, "::"); other {
		if s == "ENV" {
			return "", fmt.Errorf("it takes $%s from the environment: name the files instead", name)
		}
		section, name = s, rest
	}
	v, ok := c.raw(section, name)
	if !ok {
		return "", fmt.Errorf("variable $%s is not set", name)
	}
	return c.expand(section, v, depth-1)
}

// locate returns the paths that the configuration gives for a CA's files. A
// folder that was moved, or is mounted elsewhere, is found too: what the
// configuration has below its own dir is taken below the given one.
func (c config) locate(dir, section string) (map[string]string, error) {
	if section == "" {
		var err error
		if section, err = c.value("ca", "default_ca"); err != nil {
			return nil, err
		}
	}
	if c[section] == nil {
		return nil, fmt.Errorf("openssl.cnf: there is no section [ %s ] for a CA: name the right one", section)
	}
	home, err := c.value(section, "dir")
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for _, name := range []string{"private_key", "certificate", "database", "serial", "crlnumber", "crl",
		"new_certs_dir", "crl_dir"} {
		p, err := c.value(section, name)
		if err != nil {
			return nil, err
		}
		if p == "" {
			continue
		}
		p = filepath.Clean(p)
		rel, inside := below(filepath.Clean(home), p)
		switch {
		case inside && home != "":
			p = filepath.Join(dir, rel)
		case !filepath.IsAbs(p):
			p = filepath.Join(dir, p)
		}
		paths[name] = p
	}
	return paths, nil
}

func below(home, path string) (string, bool) {
	rel, err := filepath.Rel(home, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(os.PathSeparator))
}
