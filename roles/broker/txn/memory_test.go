package txn

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/test/allocs"
)

// allocated is how many bytes answering takes, which is said to take no more than most.
func allocated(most int64, answer func() kmsg.Response) int64 {
	return allocs.Within(most, func() { answer().AppendTo(nil) })
}

// What answers are said to take is not less than they do, whether ids are short or long
// and transactions have many partitions; nor ten times as much.
func TestMemoryOfAnswers(t *testing.T) {
	for name, id := range map[string]string{"short": "", "long": strings.Repeat("a", 2000)} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t)
			for p := range int32(Partitions) {
				h.Load(p, 1)
			}
			synctest.Wait()
			const ids = 500
			for i := range ids {
				h.init(id + strconv.Itoa(i))
			}
			list := allocated(h.ListMemory(), func() kmsg.Response {
				p := now(t, call(h, h.ListTransactions, kmsg.NewPtrListTransactionsRequest()))
				if len(p.TransactionStates) != ids {
					t.Errorf("%s: %d ids are listed", name, len(p.TransactionStates))
				}
				return p
			})
			if said := h.ListMemory(); list > said || said > 10*list {
				t.Errorf("%s: a list takes %d bytes, said to be %d", name, list, said)
			}
			w := h.init("wide")
			add := addRequest(w, 1)
			add.TransactionalID = "wide"
			for i := range int32(5000) {
				add.Partitions = append(add.Partitions, Partition{"topic " + strconv.Itoa(int(i/2)), i % 2})
			}
			now(t, call(h, h.AddPartitions, add))
			q := kmsg.NewPtrDescribeTransactionsRequest()
			q.TransactionalIDs = []string{"wide"}
			described := allocated(h.DescribeMemory(), func() kmsg.Response {
				p := now(t, call(h, h.DescribeTransactions, q))
				if len(p.TransactionStates) != 1 || len(p.TransactionStates[0].Topics) != 2500 {
					t.Fatalf("%s: %+v", name, p.TransactionStates)
				}
				return p
			})
			if said := h.DescribeMemory(); described > said {
				t.Errorf("%s: a description takes %d bytes, said to be %d", name, described, said)
			}
		})
	}
}
