package group

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/test/allocs"
)

// What a list of groups is said to take is not less than it does, nor ten times as much,
// whether ids are short or long; what was deleted is not counted.
func TestMemoryOfLists(t *testing.T) {
	for name, id := range map[string]string{"short": "", "long": strings.Repeat("a", 2000)} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t)
			for p := range int32(Partitions) {
				h.Load(p, 1)
			}
			synctest.Wait()
			const groups = 500
			drop := kmsg.NewPtrDeleteGroupsRequest()
			for i := range groups {
				g := id + strconv.Itoa(i)
				wantCode(t, g, commitCode(now(t, h.commit(g, 1))), nil)
				drop.Groups = append(drop.Groups, g)
			}
			var p *kmsg.ListGroupsResponse
			took := allocs.Within(h.ListMemory(), func() {
				p = now(t, call(h, h.ListGroups, kmsg.NewPtrListGroupsRequest()))
				p.AppendTo(nil)
			})
			if said := h.ListMemory(); len(p.Groups) != groups || took > said || said > 10*took {
				t.Errorf("%s: a list of %d takes %d bytes, said to be %d", name, len(p.Groups), took, said)
			}
			for _, d := range now(t, call(h, h.DeleteGroups, drop)).Groups {
				if err := kerr.ErrorForCode(d.ErrorCode); err != nil {
					t.Error(err)
				}
			}
			if said := h.ListMemory(); said != 0 {
				t.Errorf("%s: none takes %d bytes", name, said)
			}
		})
	}
}
