package cost

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/test/seeded"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Abs(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestBillsByHand goes through the page's load with a pencil.
func TestBillsByHand(t *testing.T) {
	l, p, c := load(), configs.PriceLists()[0].Prices(), configs.Default()
	const kept, monthly = 59_062.5, 256_640.625 // 100 MiB/s for 7 days; for 730 hours
	near(t, "kept", l.Kept(), kept)
	near(t, "monthly", l.Monthly(), monthly)
	near(t, "a GiB on disks", OnDisks(p), 0.4)
	near(t, "copies of a GiB", Copying(p), 0.04)

	disks := kafka(l).Bill(l, p)
	near(t, "Kafka's disks", disks.Disk, kept*0.08*3/0.6)
	near(t, "Kafka's traffic", disks.Zones, monthly*(2.0/3+2)*0.02)
	if disks.Bucket != 0 || disks.Requests != 0 {
		t.Errorf("Kafka has no bucket: %+v", disks)
	}

	tiered := kafkaTiered(l, 6*time.Hour, c.Storage).Bill(l, p)
	near(t, "tiered disks", tiered.Disk, 100.0/1024*6*3600*0.08*3/0.6)
	near(t, "tiered bucket", tiered.Bucket, kept*0.023)
	near(t, "tiered requests", tiered.Requests, monthly*(29*0.005+0.1*272*0.0004)/1000) // 26 parts, 2, 1
	near(t, "tiered traffic", tiered.Zones, disks.Zones)

	one := oneNode(l, time.Hour, c).Bill(l, p)
	near(t, "the log's disk", one.Disk, 100.0/1024*3600/0.5*0.08)
	near(t, "the bucket", one.Bucket, (kept+100.0/1024*900)*0.023)
	near(t, "requests", one.Requests, monthly*((128+16*4)*0.005+(887_515/823.56+27.2)*0.0004)/1000)
	near(t, "traffic", one.Zones, monthly*(2.0/3*4)*0.02)

	three := replicated(l, time.Hour, c).Bill(l, p)
	near(t, "three logs", three.Disk, 3*one.Disk)
	near(t, "one bucket", three.Bucket, one.Bucket)
	near(t, "traffic of replicas", three.Zones, disks.Zones)
	near(t, "total", three.Total(), three.Disk+three.Bucket+three.Requests+three.Zones)
}

// TestStorageIsTenTimesCheaper is the promise, at list prices of S3 and for the page's
// load: of space, and also with the requests.
func TestStorageIsTenTimesCheaper(t *testing.T) {
	l, p, c := load(), configs.PriceLists()[0].Prices(), configs.Default()
	disks := kafka(l).Bill(l, p)
	for name, y := range map[string]Layout{"one node": oneNode(l, outage, c), "replicated": replicated(l, outage, c)} {
		b := y.Bill(l, p)
		if times := disks.Space() / b.Space(); times < 10 {
			t.Errorf("%s: space is %.1f times cheaper", name, times)
		}
		if times := disks.Storage() / b.Storage(); times < 10 {
			t.Errorf("%s: storage is %.1f times cheaper", name, times)
		}
	}
}

func TestPuts(t *testing.T) {
	for _, c := range []struct{ size, part, want float64 }{{1, 40, 1}, {40, 40, 1}, {41, 40, 4}, {64, 40, 4}, {80, 40, 4}, {81, 40, 5}} {
		if got := puts(c.size, c.part); got != c.want {
			t.Errorf("%v in parts of %v: %v puts, want %v", c.size, c.part, got, c.want)
		}
	}
}

// TestBillsGrowWithTheLoad: twice the rate is twice of everything, and a longer
// retention costs space only.
func TestBillsGrowWithTheLoad(t *testing.T) {
	c := configs.Default()
	seeded.Check(t, func(t *rapid.T) {
		l := Load{
			Rate: rapid.Float64Range(1, 1e10).Draw(t, "rate"), Groups: rapid.Float64Range(0, 10).Draw(t, "groups"),
			Retention: time.Duration(rapid.Int64Range(1, 1<<20).Draw(t, "retention")) * time.Hour / 64,
			Zones:     float64(rapid.IntRange(1, 5).Draw(t, "zones")), Cold: rapid.Float64Range(0, 2).Draw(t, "cold"),
		}
		p := rapid.SampledFrom(configs.PriceLists()).Draw(t, "store").Prices()
		twice, longer := l, l
		twice.Rate, longer.Retention = 2*l.Rate, 2*l.Retention
		for name, layout := range map[string]func(Load) Layout{
			"kafka":      kafka,
			"tiered":     func(l Load) Layout { return kafkaTiered(l, local, c.Storage) },
			"one":        func(l Load) Layout { return oneNode(l, outage, c) },
			"replicated": func(l Load) Layout { return replicated(l, outage, c) },
		} {
			b, b2, b3 := layout(l).Bill(l, p), layout(twice).Bill(twice, p), layout(longer).Bill(longer, p)
			if math.Abs(b2.Total()-2*b.Total()) > 1e-9*b2.Total() {
				t.Fatalf("%s: %+v, at twice the rate %+v", name, b, b2)
			}
			if b3.Requests != b.Requests || b3.Zones != b.Zones || b3.Space() <= b.Space() {
				t.Fatalf("%s: %+v, for twice as long %+v", name, b, b3)
			}
			if l.Zones == 1 && name == "one" && b.Zones != 0 {
				t.Fatalf("one zone, and traffic for %v", b.Zones)
			}
		}
	})
}
