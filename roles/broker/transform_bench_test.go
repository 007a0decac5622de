package broker

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/etl/abi"
	"rustmq.dev/rustmq/etl/pipeline"
	"rustmq.dev/rustmq/storage/disk"
)

// passes is a module that does nothing: what it costs to ask.
type passes struct{}

// Transform implements pipeline.Transformer.
func (passes) Transform(context.Context, *abi.Batch) ([]abi.Decision, error) { return nil, nil }

// BenchmarkTransformedProduce is what the way past modules costs, without what the modules
// do: 64 records of 1 KiB in a batch, a window of 64 requests.
//
//	go test -run '^$' -bench TransformedProduce ./roles/broker
func BenchmarkTransformedProduce(b *testing.B) {
	for _, c := range []struct{ name, spec string }{
		{"modules=none", ""},
		{"modules=other-topic", `{"mode":"inline","topics":["other","more.*","regex:^x+$"]}`},
		{"modules=no-record", `{"mode":"inline","topics":["events"],"when":[{"header":"h","present":true}]}`},
		{"modules=pass", `{"mode":"inline","topics":["events"]}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			var set *pipeline.Set
			if c.spec != "" {
				spec, err := pipeline.ParseSpec([]byte(c.spec))
				if err != nil {
					b.Fatal(err)
				}
				set = pipeline.NewSet([]pipeline.Module{{Name: "m", Version: 1, Spec: spec, Transformer: passes{}}})
			}
			fs, err := disk.OpenOS(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			n := startNode(b, func(o *Options) {
				o.Store = openStore(b, fs)
				if c.spec != "" {
					o.Transforms = func() *pipeline.Set { return set }
				}
			})
			n.controller.createTopic("events", 1)
			l := listenLoopback(b)
			n.serve(l)
			n.settle(b.Context())
			values := make([]string, 64)
			for i := range values {
				values[i] = strings.Repeat("v", 1024)
			}
			q := produceTo("events", 0, -1, batchOf(b, values...))
			q.Version = 9
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)
			p := dial(b, l.Addr().String())
			b.SetBytes(64 << 10)
			b.ReportAllocs()
			window, failed := make(chan struct{}, 64), make(chan error, 1)
			b.ResetTimer()
			go func() {
				var err error
				for range b.N {
					if err == nil {
						err = p.skip()
					}
					<-window
				}
				failed <- err
			}()
			for i := range b.N {
				window <- struct{}{}
				if _, err := p.conn.Write(frame); err != nil {
					b.Fatal(err)
				}
				if i%256 == 255 {
					b.StopTimer()
					n.deleteAll(b, "events")
					b.StartTimer()
				}
			}
			if err := <-failed; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			n.Broker.Close()
		})
	}
}
