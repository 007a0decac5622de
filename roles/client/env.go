package client

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Env is the world of a command.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string // as os.Environ
}

// UsageError is a call that could not be understood; the process exits with 2.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// plural is "1 record" or "2 records".
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// was is "1 record was" or "2 records were".
func was[N int | int64](n N, noun string) string {
	if n == 1 {
		return plural(n, noun) + " was"
	}
	return plural(n, noun) + " were"
}

func (e Env) getenv(name string) string {
	for _, pair := range e.Environ {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

// progressInterval is how often a line of progress is drawn anew.
const progressInterval = 200 * time.Millisecond

// progress draws line again and again while a person watches standard error;
// anywhere else it does nothing. The returned function ends it and wipes the
// line.
func (e Env) progress(line func() string) (stop func()) {
	if !redraws(e.Stderr, e.getenv("TERM")) {
		return func() {}
	}
	return draw(e.Stderr, line)
}

const wipe = "\r\x1b[K"

// redraws reports whether w is a terminal that can do more than lines.
func redraws(w io.Writer, kind string) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && kind != "dumb"
}

// Showing returns what draws a line over the one before on a terminal, and wipes it where it
// is empty. Anywhere else, and where the terminal can do no more than lines, it does nothing.
func Showing(w io.Writer) func(line string) {
	if !redraws(w, os.Getenv("TERM")) {
		return func(string) {}
	}
	return func(line string) { fmt.Fprint(w, wipe+line) }
}

func draw(w io.Writer, line func() string) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprint(w, wipe+line())
			case <-quit:
				fmt.Fprint(w, wipe)
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}
