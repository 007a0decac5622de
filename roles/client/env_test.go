package client

import (
	"bytes"
	"testing"
)

// TestProgressIsForTerminals alone.
func TestProgressIsForTerminals(t *testing.T) {
	var out bytes.Buffer
	show := Showing(&out)
	show("half")
	show("")
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}
