package sasl

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// prepared reports whether SASLprep (RFC 4013) leaves s as it is. Kafka's clients do not
// agree on whether they prepare names and passwords: of what is prepared already, all send
// the same bytes.
func prepared(s string) bool {
	if !utf8.ValidString(s) || !norm.NFKC.IsNormalString(s) {
		return false
	}
	leftToRight, rightToLeft := false, false
	for _, r := range s {
		if !unicode.IsPrint(r) || mappedToNothing(r) { // of spaces, only U+0020 is printable
			return false
		}
		right := unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana)
		rightToLeft = rightToLeft || right
		leftToRight = leftToRight || !right && unicode.IsLetter(r)
	}
	return !(leftToRight && rightToLeft) // RFC 3454 §6
}

// mappedToNothing reports whether SASLprep leaves a printable character away (RFC 3454
// table B.1).
func mappedToNothing(r rune) bool {
	return r == 0x034f || r == 0x1806 || r >= 0x180b && r <= 0x180d || r >= 0xfe00 && r <= 0xfe0f
}
