package cost

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"

	"rustmq.dev/rustmq/configs"
)

//go:embed cost.md.tmpl
var page string

// What docs/cost.md is about.
const (
	outage = time.Hour     // without a bucket, that the log has room for
	local  = 6 * time.Hour // of records on the disks of Kafka with tiered storage
)

// load is that of docs/cost.md.
func load() Load {
	return Load{Rate: 100 << 20, Groups: 3, Retention: 7 * 24 * time.Hour, Zones: 3, Cold: 0.1}
}

// column is a system in docs/cost.md.
type column struct {
	Name string
	Layout
	Bill
}

func columns(l Load, c *configs.Config, p configs.Prices) []column {
	out := []column{
		{Name: "Kafka, RF 3 (baseline)", Layout: kafka(l)},
		{Name: "Kafka, tiered", Layout: kafkaTiered(l, local, c.Storage)},
		{Name: "rustmq, one node", Layout: oneNode(l, outage, c)},
		{Name: "rustmq, three nodes", Layout: replicated(l, outage, c)},
	}
	for i := range out {
		out[i].Bill = out[i].Layout.Bill(l, p)
	}
	return out
}

// Document returns docs/cost.md: list prices, whatever those of c are.
func Document(c *configs.Config) (string, error) {
	l := load()
	lists := configs.PriceLists()
	s3 := lists[0].Prices()
	all := columns(l, c, s3)
	baseline, one := all[0], all[2]
	t, err := template.New("cost.md").Funcs(template.FuncMap{
		"gib": gib, "dollars": dollars, "times": times, "grouped": grouped,
		"table":     func() string { return billTable(all) },
		"layouts":   func() string { return layoutTable(all) },
		"retention": func() string { return retentionTable(l, c, s3) },
		"stores":    func() string { return storeTable(l, c) },
		"prices":    priceTable,
	}).Parse(page)
	if err != nil {
		return "", fmt.Errorf("parse the page: %w", err)
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Lists": lists, "Load": l, "Config": c, "Prices": s3, "Baseline": baseline, "One": one, "OnDisks": OnDisks(s3),
		"CheaperSpace": baseline.Space() / one.Space(), "Cheaper": baseline.Storage() / one.Storage(),
		"Days": l.Retention.Hours() / 24, "Rate": configs.Size(l.Rate), "Outage": configs.Duration(outage), "Local": configs.Duration(local),
		"Replicas": Replicas, "Filled": Filled, "Percent": 100 * Filled, "Month": HoursOfMonth, "UploadObject": configs.Size(uploadObject),
		"Cold": 100 * l.Cold, "CompactionGets": compactionGets,
	})
	if err != nil {
		return "", fmt.Errorf("write the page: %w", err)
	}
	return b.String(), nil
}

// row writes a row of a table.
func row(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

func head(b *strings.Builder, cells ...string) {
	row(b, cells...)
	fmt.Fprintf(b, "|%s\n", strings.Repeat("---|", len(cells)))
}

// across is a row with a cell for each column.
func across(b *strings.Builder, all []column, cell func(column) string, first ...string) {
	for _, c := range all {
		first = append(first, cell(c))
	}
	row(b, first...)
}

func layoutTable(all []column) string {
	var b strings.Builder
	head(&b, headings(all, "")...)
	across(&b, all, func(c column) string { return gib(c.Layout.Disk) }, "disks, GiB")
	across(&b, all, func(c column) string { return gib(c.Layout.Bucket) }, "in the bucket, GiB")
	across(&b, all, func(c column) string { return gib(c.Puts) }, "PUTs for each GiB produced")
	across(&b, all, func(c column) string { return gib(c.Gets) }, "GETs for each GiB produced")
	across(&b, all, func(c column) string { return fmt.Sprintf("%.2f", c.Crossing) }, "GiB between zones for each GiB produced")
	return b.String()
}

func billTable(all []column) string {
	var b strings.Builder
	baseline := all[0].Bill
	head(&b, headings(all, "dollars a month", "prices")...)
	across(&b, all, func(c column) string { return dollars(c.Bill.Disk) }, "disks", "disk")
	across(&b, all, func(c column) string { return dollars(c.Bill.Bucket) }, "space in the bucket", "storage")
	across(&b, all, func(c column) string { return dollars(c.Requests) }, "requests", "put, get")
	across(&b, all, func(c column) string { return "**" + dollars(c.Storage()) + "**" }, "**storage**, without bytes between zones", "")
	across(&b, all, func(c column) string { return times(baseline.Storage() / c.Storage()) }, "cheaper than the baseline", "")
	across(&b, all, func(c column) string { return times(baseline.Space() / c.Space()) }, "the same, without requests", "")
	across(&b, all, func(c column) string { return dollars(c.Bill.Zones) }, "bytes between zones", "zone")
	across(&b, all, func(c column) string { return "**" + dollars(c.Total()) + "**" }, "**with them**", "")
	across(&b, all, func(c column) string { return times(baseline.Total() / c.Total()) }, "cheaper than the baseline", "")
	return b.String()
}

func headings(all []column, first ...string) []string {
	for _, c := range all {
		first = append(first, c.Name)
	}
	return first
}

func retentionTable(l Load, c *configs.Config, p configs.Prices) string {
	var b strings.Builder
	head(&b, "kept for", "baseline", "rustmq, one node: storage", "cheaper", "without requests")
	for _, days := range []int{1, 3, 7, 30} {
		l.Retention = time.Duration(days) * 24 * time.Hour
		all := columns(l, c, p)
		baseline, one := all[0].Bill, all[2].Bill
		unit := " days"
		if days == 1 {
			unit = " day"
		}
		row(&b, strconv.Itoa(days)+unit, dollars(baseline.Storage()), dollars(one.Storage()),
			times(baseline.Storage()/one.Storage()), times(baseline.Space()/one.Space()))
	}
	return b.String()
}

func storeTable(l Load, c *configs.Config) string {
	var b strings.Builder
	head(&b, "prices of", "baseline", "rustmq, one node: storage", "cheaper", "without requests", "bytes between zones: baseline")
	for _, list := range configs.PriceLists() {
		all := columns(l, c, list.Prices())
		baseline, one := all[0].Bill, all[2].Bill
		row(&b, list.Name, dollars(baseline.Storage()), dollars(one.Storage()),
			times(baseline.Storage()/one.Storage()), times(baseline.Space()/one.Space()), dollars(baseline.Zones))
	}
	return b.String()
}

func priceTable(list configs.PriceList) string {
	var b strings.Builder
	head(&b, "key", "dollars", "per", "source", "date", "what it says")
	for _, c := range list.Cells() {
		row(&b, "`"+c.Key+"`", c.Price.String(), c.Per, "["+host(c.Source)+"]("+c.Source+")", c.Date, c.Note)
	}
	return b.String()
}

// host shortens an address for a table.
func host(address string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(address, "https://"), "/")
	if name == "github.com" {
		return address[strings.LastIndexByte(address, '/')+1:]
	}
	return name
}

func times(v float64) string { return fmt.Sprintf("%.1f ×", v) }

func gib(v float64) string { return grouped(v, 0) }

func dollars(v float64) string { return "$" + grouped(v, 0) }

// grouped writes a number with commas.
func grouped(v float64, digits int) string {
	s := strconv.FormatFloat(v, 'f', digits, 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}
