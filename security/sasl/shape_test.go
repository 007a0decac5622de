package sasl

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

var shapeSecret = []byte("a secret of sixteen bytes")

// shapesOf counts shapes, each as many times as it says.
func shapesOf(times map[Shape]int) *Shapes {
	return CountShapes(func(yield func(Shape) bool) {
		for s, n := range times {
			for range n {
				if !yield(s) {
					return
				}
			}
		}
	})
}

// Who is not there has iterations and a salt as a user may have them, each kind as often as
// it is among users: what is told before a proof says nothing of who is there.
func TestNobodyLooksLikeAUser(t *testing.T) {
	t.Parallel()
	ours := Shape{ScramSHA512, DefaultIterations, SaltSize, false}
	kafkas := Shape{ScramSHA512, MinIterations, 26, true}
	short := Shape{ScramSHA512, MinIterations, 25, true}
	odd := Shape{ScramSHA256, 5000, 100, false}
	const names = 400
	for _, users := range []map[Shape]int{
		{ours: 1}, {kafkas: 7}, {odd: 2000}, {ours: 1, kafkas: 3}, {ours: 10, kafkas: 5, short: 4, odd: 1},
	} {
		shapes, same, total, got := shapesOf(users), shapesOf(users), 0, map[Shape]int{}
		for _, n := range users {
			total += n
		}
		for i := range names {
			user := fmt.Sprint("user-", i)
			shape, c := fakeCredential(Plain, shapeSecret, user, shapes)
			got[shape]++
			if seen := ShapeOf(shape.Mechanism, c.Salt, c.Iterations); seen != shape {
				t.Fatalf("%s is to be %+v, and is seen as %+v: %q", user, shape, seen, c.Salt)
			}
			if len(c.StoredKey) != KeySize(shape.Mechanism) {
				t.Fatalf("%s has a key of %d bytes", user, len(c.StoredKey))
			}
			if again, d := fakeCredential(Plain, shapeSecret, user, same); again != shape || !bytes.Equal(d.Salt, c.Salt) {
				t.Fatalf("%s is another the second time", user)
			}
		}
		for shape, n := range got {
			if users[shape] == 0 {
				t.Errorf("%+v is nobody's, and %d have it who are not there", shape, n)
			}
		}
		for shape, n := range users { // five sigma, at most
			if want := names * n / total; got[shape] < want-50 || got[shape] > want+50 {
				t.Errorf("%d of %d users are %+v, and %d of %d who are not there", n, total, shape, got[shape], names)
			}
		}
	}
}

// Where the shape of who is not there changes with those of the users, its salt does too, as
// that of a user whose password was set anew; where it does not, neither does the salt.
func TestNobodysSaltStaysWithItsShape(t *testing.T) {
	t.Parallel()
	a, b := Shape{ScramSHA256, 4096, 24, false}, Shape{ScramSHA256, 8192, 24, false}
	before, after := shapesOf(map[Shape]int{a: 1, b: 1}), shapesOf(map[Shape]int{a: 3, b: 1})
	moved := 0
	for i := range 500 {
		user := fmt.Sprint("user-", i)
		was, c := fakeCredential(ScramSHA256, shapeSecret, user, before)
		is, d := fakeCredential(ScramSHA256, shapeSecret, user, after)
		if same := bytes.Equal(c.Salt, d.Salt); same != (was == is) {
			t.Fatalf("%s was %+v, is %+v, and has the same salt: %v", user, was, is, same)
		}
		if was != is {
			moved++
		}
	}
	if moved == 0 || moved > 200 {
		t.Errorf("%d of 500 have another shape: the test shows nothing, or many would", moved)
	}
}

// The salts that Kafka's tools make begin with a one where they have 26 letters: so do those
// of who is not there.
func TestNobodysSaltIsANumberAsKafkasIs(t *testing.T) {
	t.Parallel()
	most := new(big.Int).Lsh(big.NewInt(1), 130)
	first := map[byte]int{}
	for _, size := range []int{MinSalt, 25, 26} {
		for i := range 300 {
			salt := string(fakeSalt(Shape{ScramSHA512, 4096, size, true}, shapeSecret, fmt.Sprint(i)))
			n, ok := new(big.Int).SetString(salt, 36)
			if !ok || n.Cmp(most) >= 0 || n.Text(36) != salt || len(salt) != size {
				t.Fatalf("%q is no such number of %d letters", salt, size)
			}
			if size == 25 {
				first[salt[0]]++
			}
		}
	}
	if len(first) < 30 {
		t.Errorf("salts of 25 letters begin with %d of them", len(first))
	}
	if s := ShapeOf(ScramSHA512, []byte(strings.Repeat("1", 27)), 4096); s.Text {
		t.Error("a salt of 27 letters is taken for one of Kafka's tools")
	}
	if !slices.Equal(fakeSalt(standard(Plain), shapeSecret, "a"), fakeSalt(standard(ScramSHA512), shapeSecret, "a")) {
		t.Error("PLAIN's salt is another")
	}
}
