package cloud

import (
	"fmt"
	"net/url"
	"strconv"
)

// Verify is how a put learns that what is stored is what was written.
type Verify uint8

// The ways to verify.
const (
	// VerifyAuto trusts a checksum that the store answers with and that equals ours;
	// where it answers with none, the object is read back.
	VerifyAuto Verify = iota
	// VerifyReadBack reads every object back.
	VerifyReadBack
)

func (v Verify) String() string {
	if v == VerifyReadBack {
		return "readback"
	}
	return "auto"
}

// UnmarshalText reads it as configurations write it.
func (v *Verify) UnmarshalText(text []byte) error {
	switch string(text) {
	case "auto":
		*v = VerifyAuto
	case "readback":
		*v = VerifyReadBack
	default:
		return fmt.Errorf("verify %q: use auto or readback", text)
	}
	return nil
}

// Options of a bucket; zeros are defaults. A query parameter of the URL, whose
// name stands behind the field, comes before the option. Parameters that are not
// named here go to the driver: profile, role, anonymous for S3; anonymous for GCS;
// storage_account, domain, protocol, localemu, cdn for Azure.
type Options struct {
	Prefix   string // prefix: of all keys, without a slash at its end
	Endpoint string // endpoint: URL of a store that is not the cloud's own
	Region   string // region: of S3

	PathStyle bool // use_path_style: the bucket's name stands in the path and not in the host (S3)

	StorageClass  string // storage_class: STANDARD_IA, NEARLINE, Cool, …; default the bucket's
	Encryption    string // encryption: AES256 or aws:kms (S3)
	EncryptionKey string // encryption_key: KMS key (S3, GCS) or encryption scope (Azure)

	// Checksums (checksums) is when_supported, the default, or when_required, for
	// stores that cannot read the checksums of today's SDKs. Then objects are read
	// back.
	Checksums string
	Verify    Verify // verify

	PartSize    int // part_size: bytes, 5 MiB at least; default 16 MiB
	Concurrency int // concurrency: parts of one upload at a time; default 4
}

const (
	minPartSize     = 5 << 20 // S3's
	defaultPartSize = 16 << 20
)

// of returns the options with the parameters of a URL, and the URL with the
// others.
func (o Options) of(u *url.URL) (Options, *url.URL, error) {
	rest := *u
	query := u.Query()
	take := func(name string, to *string) {
		if query.Has(name) {
			*to = query.Get(name)
			query.Del(name)
		}
	}
	take("prefix", &o.Prefix)
	take("endpoint", &o.Endpoint)
	take("region", &o.Region)
	take("storage_class", &o.StorageClass)
	take("encryption", &o.Encryption)
	take("encryption_key", &o.EncryptionKey)
	take("checksums", &o.Checksums)
	var pathStyle, verify, partSize, concurrency string
	take("use_path_style", &pathStyle)
	take("verify", &verify)
	take("part_size", &partSize)
	take("concurrency", &concurrency)
	rest.RawQuery = query.Encode()
	var err error
	if pathStyle != "" {
		if o.PathStyle, err = strconv.ParseBool(pathStyle); err != nil {
			return o, nil, fmt.Errorf("use_path_style=%q: use true or false", pathStyle)
		}
	}
	if verify != "" {
		if err := o.Verify.UnmarshalText([]byte(verify)); err != nil {
			return o, nil, err
		}
	}
	for _, n := range []struct {
		name, value string
		to          *int
	}{{"part_size", partSize, &o.PartSize}, {"concurrency", concurrency, &o.Concurrency}} {
		if n.value == "" {
			continue
		}
		if *n.to, err = strconv.Atoi(n.value); err != nil {
			return o, nil, fmt.Errorf("%s=%q: use a number", n.name, n.value)
		}
	}
	return o, &rest, o.complete()
}

// complete sets defaults and refuses what cannot be.
func (o *Options) complete() error {
	if o.PartSize == 0 {
		o.PartSize = defaultPartSize
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Checksums == "" {
		o.Checksums = "when_supported"
	}
	switch {
	case o.PartSize < minPartSize:
		return fmt.Errorf("part size %d: use %d bytes or more", o.PartSize, minPartSize)
	case o.Concurrency < 0 || o.Concurrency > 1000:
		return fmt.Errorf("concurrency %d: use 1 to 1000", o.Concurrency)
	case o.Checksums != "when_supported" && o.Checksums != "when_required":
		return fmt.Errorf("checksums %q: use when_supported or when_required", o.Checksums)
	}
	return nil
}

// sendChecksums reports whether requests carry them.
func (o *Options) sendChecksums() bool { return o.Checksums == "when_supported" }
