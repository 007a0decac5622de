package client

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A file that cannot be written to its end leaves what was there, and nothing beside it.
func TestAFileIsThereWholeOrAsBefore(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	writes := func(text string, fails error) error {
		return WriteWhole(name, func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return errors.Join(err, fails)
		})
	}
	full := errors.New("the disk is full")
	for _, c := range []struct {
		text  string
		fails error
		left  string
	}{{"half", full, ""}, {"one", nil, "one"}, {"half", full, "one"}, {"two", nil, "two"}} {
		if err := writes(c.text, c.fails); !errors.Is(err, c.fails) {
			t.Errorf("%s: %v", c.text, err)
		}
		is, _ := os.ReadFile(name)
		all, err := os.ReadDir(dir)
		if err != nil || string(is) != c.left || len(all) != min(1, len(c.left)) {
			t.Errorf("after %s: %q, and %d files", c.text, is, len(all))
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
