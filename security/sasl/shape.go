package sasl

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/big"
	"math/bits"
	"slices"
	"sort"
)

// Shape is what a client learns of a credential before it has proved anything: SCRAM tells
// the salt and the iterations, and PLAIN takes as long as the mechanism and they cost.
type Shape struct {
	Mechanism  string // of SCRAM
	Iterations int
	SaltSize   int
	// Text: the salt is a number of 130 bits in base 36, as Kafka's tools make it; else it
	// is any bytes.
	Text bool
}

// ShapeOf returns that of a credential of a mechanism.
func ShapeOf(mechanism string, salt []byte, iterations int) Shape {
	text := len(salt) <= kafkaSalt && !slices.ContainsFunc(salt, func(b byte) bool {
		return (b < '0' || b > '9') && (b < 'a' || b > 'z')
	})
	return Shape{mechanism, iterations, len(salt), text}
}

// kafkaSalt is the most letters that a number of 130 bits has in base 36.
const kafkaSalt = 26

// standard is the shape of a password that is set here.
func standard(mechanism string) Shape {
	if mechanism == Plain {
		mechanism = ScramSHA512
	}
	return Shape{mechanism, DefaultIterations, SaltSize, false}
}

// Shapes is how many users have credentials of which shape: who is not there has one of
// them, as likely as a user has it. It is never changed. Nil: there are no users.
type Shapes struct {
	shapes []Shape
	upTo   []uint64 // users of the shapes to this one; ascending
}

// CountShapes counts those of users. Their order does not matter.
func CountShapes(of iter.Seq[Shape]) *Shapes {
	counts := map[Shape]uint64{}
	for s := range of {
		counts[s]++
	}
	if len(counts) == 0 {
		return nil
	}
	s := &Shapes{}
	for shape := range counts {
		s.shapes = append(s.shapes, shape)
	}
	slices.SortFunc(s.shapes, func(a, b Shape) int {
		text := func(s Shape) int {
			if s.Text {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.Mechanism, b.Mechanism), cmp.Compare(a.Iterations, b.Iterations), cmp.Compare(a.SaltSize, b.SaltSize), text(a)-text(b))
	})
	users := uint64(0)
	for _, shape := range s.shapes {
		users += counts[shape]
		s.upTo = append(s.upTo, users)
	}
	return s
}

// drawn returns the shape that a number, of all of 64 bits, stands for.
func (s *Shapes) drawn(number uint64) Shape {
	user, _ := bits.Mul64(number, s.upTo[len(s.upTo)-1])
	return s.shapes[sort.Search(len(s.upTo), func(i int) bool { return s.upTo[i] > user })]
}

// fakeCredential is that of a user who is not there. Neither its shape nor its salt change
// while those of the users do not, as those of a user do not; with another shape it has
// another salt, as a user has whose password was set anew. Its keys are those of no
// password.
func fakeCredential(mechanism string, secret []byte, user string, shapes *Shapes) (Shape, Credential) {
	number := binary.BigEndian.Uint64(mac(hashOf(ScramSHA256), secret, []byte("shape\x00"+mechanism+"\x00"+user)))
	shape := standard(mechanism)
	if shapes != nil {
		shape = shapes.drawn(number)
	}
	h := hashOf(shape.Mechanism)
	part := func(what string) []byte { return mac(h, secret, []byte(what+"\x00"+shape.Mechanism+"\x00"+user)) }
	return shape, Credential{
		Salt: fakeSalt(shape, secret, user), Iterations: shape.Iterations,
		StoredKey: part("stored key"), ServerKey: part("server key"),
	}
}

func fakeSalt(shape Shape, secret []byte, user string) []byte {
	var random []byte
	for block := uint32(0); len(random) < max(shape.SaltSize, 32); block++ {
		of := binary.BigEndian.AppendUint32([]byte("salt\x00"+shape.Mechanism+"\x00"), block)
		of = binary.BigEndian.AppendUint32(of, uint32(shape.Iterations))
		random = append(random, mac(hashOf(shape.Mechanism), secret, append(of, user...))...)
	}
	if !shape.Text {
		return random[:shape.SaltSize]
	}
	// Any of the numbers of 130 bits that have so many letters: the first of 26 is a one.
	base := big.NewInt(36)
	first := new(big.Int).Exp(base, big.NewInt(int64(shape.SaltSize-1)), nil)
	end := new(big.Int).Mul(first, base)
	if all := new(big.Int).Lsh(big.NewInt(1), 130); end.Cmp(all) > 0 {
		end = all
	}
	n := new(big.Int).SetBytes(random[:32])
	n.Mod(n, end.Sub(end, first)).Add(n, first)
	return n.Append(nil, 36)
}
