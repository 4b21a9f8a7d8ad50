package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"

	"golang.org/x/term"

	"github.com/privyseal/privyseal/internal/ceremony"
)

// wipe clears the screen and what was scrolled off it.
const wipe = "\x1b[H\x1b[2J\x1b[3J"

// console returns how to speak with the people at the terminal, and what puts
// the terminal back as it was. Secrets come from the descriptor secrets, if that
// is not negative.
func console(out io.Writer, secrets int) (ceremony.Console, func()) {
	stdin := int(os.Stdin.Fd())
	c := ceremony.Console{Out: out, Clear: func() {}, Line: func() (string, error) {
		line, err := readLine(os.Stdin)
		return string(line), err
	}}
	c.Secret = func() ([]byte, error) { return readLine(os.Stdin) }
	restore := func() {}
	if term.IsTerminal(stdin) {
		restore = keep(stdin)
		c.Clear = func() { _, _ = io.WriteString(out, wipe) }
		c.Secret = func() ([]byte, error) {
			secret, err := term.ReadPassword(stdin)
			_, _ = io.WriteString(out, "\n")
			return secret, err
		}
	}
	if secrets >= 0 {
		from := os.NewFile(uintptr(secrets), "secrets")
		c.Secret = func() ([]byte, error) {
			_, _ = io.WriteString(out, "\n")
			return readLine(from)
		}
	}
	return c, restore
}

// keep puts the terminal back as it is now when the program is interrupted while
// something is typed unseen.
func keep(fd int) (restore func()) {
	state, err := term.GetState(fd)
	if err != nil {
		return func() {}
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		<-interrupts
		_ = term.Restore(fd, state)
		_, _ = io.WriteString(os.Stderr, "\ninterrupted: run the same command again to go on\n")
		os.Exit(130)
	}()
	return func() { _ = term.Restore(fd, state) }
}

// readLine reads one line and not an octet more, so that whoever reads next finds
// the rest.
func readLine(from *os.File) ([]byte, error) {
	var line []byte
	var one [1]byte
	for len(line) < 1<<16 {
		n, err := from.Read(one[:])
		switch {
		case n == 1 && one[0] == '\n':
			return bytes.TrimSuffix(line, []byte("\r")), nil
		case n == 1:
			line = append(line, one[0])
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("the input has ended")
		case err != nil:
			return nil, err
		}
	}
	return nil, errors.New("the line is too long")
}
