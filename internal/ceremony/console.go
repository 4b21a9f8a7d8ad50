package ceremony

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Console is how a ceremony speaks with the people in the room.
type Console struct {
	Out    io.Writer
	Line   func() (string, error) // one line that somebody types
	Secret func() ([]byte, error) // the same, not shown while it is typed
	Clear  func()                 // wipes the screen and what was scrolled off it
}

// say writes one line of text, which others may have written in part.
func (c Console) say(format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return '?' // nothing in a request moves the cursor
	}, fmt.Sprintf(format, args...))
	fmt.Fprintln(c.Out, text)
}

// ask returns what is typed after a prompt.
func (c Console) ask(format string, args ...any) (string, error) {
	fmt.Fprintf(c.Out, format+": ", args...)
	line, err := c.Line()
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

// askSecret is ask for what must not be seen. The caller clears it.
func (c Console) askSecret(format string, args ...any) ([]byte, error) {
	fmt.Fprintf(c.Out, format+": ", args...)
	secret, err := c.Secret()
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return secret, nil
}

// confirm demands the word yes.
func (c Console) confirm(question string) error {
	answer, err := c.ask("%s Type yes to go on", question)
	if err != nil {
		return err
	}
	if answer != "yes" {
		return refuse("not_confirmed", "not confirmed: nothing was done")
	}
	return nil
}
