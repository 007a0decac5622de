package ca

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/crypto/scrypt"

	"rustmq.dev/rustmq/storage/guard"
)

// Kinds of keys.
const (
	ECDSA   = "ecdsa" // P-256
	Ed25519 = "ed25519"
	RSA3072 = "rsa-3072"
	RSA4096 = "rsa-4096"
)

// KeyKinds are those that [Options] and [Request] may ask for.
func KeyKinds() []string { return []string{ECDSA, Ed25519, RSA3072, RSA4096} }

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("%q is no kind of key: want one of %v", kind, KeyKinds())
}

// PEM types of keys.
const (
	plainKey  = "PRIVATE KEY" // PKCS#8
	sealedKey = "RUSTMQ SEALED KEY"
)

// MinPassphrase is how long a passphrase is at least, in bytes.
const MinPassphrase = 8

// Cost of a passphrase: scrypt's parameters, about 128 MiB and half a second; others are read
// up to these limits, so that a file cannot ask for all memory.
const (
	defaultCost = 1 << 17
	maxCost     = 1 << 20
	blockSize   = 8
	saltBytes   = 16
)

// ErrPassphrase says that a passphrase does not open a key, or that the key's file is
// damaged: nobody can tell these apart.
var ErrPassphrase = errors.New("the passphrase is wrong, or the file is damaged")

// ErrSealed says that a key needs a passphrase.
var ErrSealed = errors.New("the key is sealed by a passphrase")

// encodeKey is a key in PEM, sealed where there is a passphrase. The headers of a sealed
// one, which are authenticated too, are Cost, scrypt's N with r = 8 and p = 1, and Salt; its
// body is the nonce and the sealed PKCS#8.
func encodeKey(key crypto.Signer, passphrase []byte, cost int) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if passphrase == nil {
		return pem.EncodeToMemory(&pem.Block{Type: plainKey, Bytes: der}), nil
	}
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	seal, err := sealOf(passphrase, salt, cost)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, seal.NonceSize())
	_, _ = rand.Read(nonce)
	block := &pem.Block{Type: sealedKey, Headers: map[string]string{"Cost": strconv.Itoa(cost), "Salt": hex.EncodeToString(salt)}}
	block.Bytes = seal.Seal(nonce, nonce, der, associated(cost, salt))
	return pem.EncodeToMemory(block), nil
}

func sealOf(passphrase, salt []byte, cost int) (cipher.AEAD, error) {
	derived, err := scrypt.Key(passphrase, salt, cost, blockSize, 1, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func associated(cost int, salt []byte) []byte {
	return fmt.Appendf(nil, "%s cost %d salt %x", sealedKey, cost, salt)
}

// decodeKey reads what encodeKey has made, or a key in PKCS#8 that the operator has. ask
// gives the passphrase of one that is sealed.
func decodeKey(raw []byte, ask func() ([]byte, error)) (crypto.Signer, error) {
	block, rest := pem.Decode(raw)
	if block == nil || len(rest) > 0 && len(block.Bytes) == 0 {
		return nil, errors.New("there is no key in PEM in it")
	}
	der := block.Bytes
	switch block.Type {
	case plainKey:
	case sealedKey:
		passphrase, err := ask()
		if err != nil {
			return nil, err
		}
		if der, err = unseal(block, passphrase); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("it holds a %q; want a %q (PKCS#8) or a %q", block.Type, plainKey, sealedKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("its key is malformed") // what the parser says may quote it
	}
	signer, is := key.(crypto.Signer)
	if !is {
		return nil, errors.New("its key does not sign")
	}
	return signer, nil
}

func unseal(block *pem.Block, passphrase []byte) ([]byte, error) {
	cost, err := strconv.Atoi(block.Headers["Cost"])
	if err != nil || cost < 2 || cost&(cost-1) != 0 || cost > maxCost {
		return nil, fmt.Errorf("its cost %.20q is not a power of two up to %d", block.Headers["Cost"], maxCost)
	}
	salt, err := hex.DecodeString(block.Headers["Salt"])
	if err != nil || len(salt) != saltBytes {
		return nil, fmt.Errorf("its salt is not %d bytes in hex", saltBytes)
	}
	seal, err := sealOf(passphrase, salt, cost)
	if err != nil {
		return nil, err
	}
	size := seal.NonceSize()
	if len(block.Bytes) < size {
		return nil, ErrPassphrase
	}
	der, err := seal.Open(nil, block.Bytes[:size], block.Bytes[size:], associated(cost, salt))
	if err != nil {
		return nil, ErrPassphrase
	}
	return der, nil
}

// readKey reads a key that nobody else may read, and which is that of a certificate.
func readKey(file string, cert *x509.Certificate, ask func() ([]byte, error)) (crypto.Signer, error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the key %s is not there: if it is kept elsewhere, name that with --key-dir", file)
	}
	if err != nil {
		return nil, err
	}
	if !guard.Check("ca.key-private", info.Mode().Perm()&0o077 == 0) {
		return nil, fmt.Errorf("the key %s can be read or written by others (mode %04o): chmod 600 it, and make another if it was seen", file, info.Mode().Perm())
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(raw, ask)
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w", file, err)
	}
	public, is := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !is || !guard.Check("ca.key-matches", public.Equal(key.Public())) {
		return nil, fmt.Errorf("the key %s is not that of its certificate, %s", file, cert.Subject)
	}
	return key, nil
}

// replace writes a file so that a reader, also one after a power cut, sees the old one or
// the new one.
func replace(file string, content []byte, mode os.FileMode) (err error) {
	tmp := file + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
