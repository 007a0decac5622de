package configs_test

import (
	"strings"
	"testing"
	"time"

	"rustmq.dev/rustmq/configs"
)

// TestEveryListPriceHasASource: a price that nobody can look up is none.
func TestEveryListPriceHasASource(t *testing.T) {
	for _, l := range configs.PriceLists() {
		for _, c := range l.Cells() {
			if !strings.HasPrefix(c.Source, "https://") || c.Date == "" || c.Note == "" || c.Per == "" || c.Price < 0 {
				t.Errorf("%s %s: %+v", l.Scheme, c.Key, c)
			}
			if year, _, dated := strings.Cut(c.Date, "-"); dated {
				if _, err := time.Parse("2006", year); err != nil {
					t.Errorf("%s %s: the date %q", l.Scheme, c.Key, c.Date)
				}
			}
			if c.Price == 0 && !(l.Scheme == "azblob" && c.Key == "zone") {
				t.Errorf("%s %s is free", l.Scheme, c.Key)
			}
		}
	}
}

// TestPricesComeFromTheStoreOfTheBucket, unless they are set.
func TestPricesComeFromTheStoreOfTheBucket(t *testing.T) {
	for _, c := range []struct {
		name    string
		set     []string
		want    configs.Prices // without source
		says    []string
		neither string
	}{
		{
			"a directory", nil, configs.Prices{Storage: 23e6, Put: 5e6, Get: 4e5, List: 5e6, Disk: 80e6, Zone: 20e6},
			[]string{"S3 Standard and EBS gp3 in us-east-1", "https://aws.amazon.com/", "docs/cost.md", "none of its own"}, "the others",
		},
		{
			"S3", []string{"object_storage.url=s3://b?region=us-east-1"}, configs.Prices{Storage: 23e6, Put: 5e6, Get: 4e5, List: 5e6, Disk: 80e6, Zone: 20e6},
			[]string{"S3 Standard"}, "none of its own",
		},
		{
			"Google", []string{"object_storage.url=gs://b"}, configs.Prices{Storage: 20e6, Put: 5e6, Get: 4e5, List: 5e6, Disk: 100e6, Zone: 10e6},
			[]string{"Cloud Storage Standard"}, "S3",
		},
		{
			"Azure", []string{"object_storage.url=azblob://b"}, configs.Prices{Storage: 26e6, Put: 6875e3, Get: 44e4, List: 6875e3, Disk: 75e6, Zone: 0},
			[]string{"Hot ZRS"}, "S3",
		},
		{
			"some set", []string{"object_storage.url=gs://b", "object_storage.prices.put=0", "object_storage.prices.zone=0.001"},
			configs.Prices{Storage: 20e6, Get: 4e5, List: 5e6, Disk: 100e6, Zone: 1e6},
			[]string{"put, zone: the configuration; the others: list prices of Cloud Storage"}, "none of its own",
		},
		{
			"all set", []string{
				"object_storage.prices.storage=1", "object_storage.prices.put=1", "object_storage.prices.get=1", "object_storage.prices.list=1",
				"object_storage.prices.disk=1", "object_storage.prices.zone=1", "object_storage.prices.source=our contract, 2026",
			},
			configs.Prices{Storage: 1e9, Put: 1e9, Get: 1e9, List: 1e9, Disk: 1e9, Zone: 1e9},
			[]string{"our contract, 2026"}, "list prices",
		},
	} {
		config, err := configs.Load(configs.Sources{Set: c.set})
		if err != nil {
			t.Fatal(err)
		}
		got := config.Storage.ListedPrices()
		source := got.Source
		if got.Source = ""; got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		for _, s := range c.says {
			if !strings.Contains(source, s) {
				t.Errorf("%s: the source %q does not say %q", c.name, source, s)
			}
		}
		if strings.Contains(source, c.neither) {
			t.Errorf("%s: the source %q says %q", c.name, source, c.neither)
		}
	}
}
