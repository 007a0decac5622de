package kafka

import "testing"

// TestBufferClasses: a buffer holds what it is taken for, all of a class have
// one size, and a large one wastes a quarter at most.
func TestBufferClasses(t *testing.T) {
	sizes := map[int]int64{}
	was := -1
	for n := 1; n <= 1<<largestBits; n += 1 + n/999 {
		class, size := classOf(n)
		if known, ok := sizes[class]; ok && known != size || class < was || class > largestClass {
			t.Fatalf("%d bytes: class %d of %d, was %d of %d", n, class, size, was, known)
		}
		sizes[class], was = size, class
		if size < int64(n) || n > 16<<20 && size > int64(n)+int64(n)/4+1 {
			t.Fatalf("%d bytes get %d", n, size)
		}
		if edge, _ := classOf(int(size)); edge != class {
			t.Fatalf("%d bytes are of class %d, and not of %d", size, edge, class)
		}
	}
	if len(sizes) != largestClass-smallestClass+1 {
		t.Fatalf("%d classes", len(sizes))
	}
	if class, size := classOf(1<<largestBits + 1); class != -1 || size != 1<<largestBits+1 {
		t.Fatalf("beyond: class %d of %d", class, size)
	}
}
