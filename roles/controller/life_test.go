package controller

import "testing"

// TestDamagedQuestionsAreNone: a flipped bit of a question, or of an answer, is seen wherever
// it is; and text of any other form is no question.
func TestDamagedQuestionsAreNone(t *testing.T) {
	want := [16]byte{1, 2, 3, 0xff}
	text := LifeText(want, "controller 7")
	if got, by, err := ParseLife(text); err != nil || got != want || by != "controller-7" {
		t.Fatalf("%x by %q: %v", got, by, err)
	}
	for i := range text {
		damaged := append([]byte(nil), text...)
		damaged[i] ^= 1
		if got, by, err := ParseLife(damaged); err == nil && (got != want || by != "controller-7") {
			t.Errorf("byte %d flipped: %x by %q", i, got, by)
		}
	}
	for _, text := range []string{"", " ", "\n", "life", "life 1 ab x 00000000\n", string(text[:len(text)/2])} {
		if _, _, err := ParseLife([]byte(text)); err == nil {
			t.Errorf("%q is a question", text)
		}
	}
}
