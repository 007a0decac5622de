// Package pattern compiles the regular expressions that clients send: those that
// consumers subscribe by (KIP-848), and those that transactional ids are listed by
// (KIP-1152). It owns what they may cost, and nothing else.
//
// Their syntax is RE2's, and the whole name has to match. The bytes of a pattern do
// not bound what it compiles to (`a{1000}` is a thousand instructions), and its
// match is linear in that and in the length of the name, so what is bounded is the
// instructions, before they are made.
//
// That bounds a match with one name to a tenth of a second, and there are many names:
// matches with those take [Turns], on goroutines that nobody else waits for, and end
// when they have taken too long.
//
// A compiled pattern, and Turns, may be used from any goroutine; a [Match] is its
// goroutine's own, and blocks in Next while another has the turn.
package pattern
