// Package packages installs and runs what is released, as those who get it do.
//
// Its tests are built with the tag packages, and need root (make suite-packages):
//
//	go test -tags packages -v ./test/packages
//
// TestPackages makes a release, and the root file system of the image by the steps of
// deploy/docker/Dockerfile, which it interprets: there is no container engine where it runs.
// An instruction, a flag or a key that it does not know is an error, so that what is tested
// is what is written. Then
//
//   - the two executables, built in different folders, of different module caches, are the
//     same, and so is everything that is packed of them, twice;
//   - the containers of deploy/docker/compose.yaml run in chroots, with namespaces, addresses,
//     users, volumes, published ports and health checks of their own, as an engine would have
//     it: a cluster on an S3 server, produced to and consumed from, scraped by Prometheus;
//   - the Debian package is installed, upgraded, removed and purged, in a Debian that nothing
//     runs in, and in one that systemd has booted, where the service runs in its sandbox.
//
// What is not tested: Grafana, of which only the files that it would read are looked at, and
// images of other processors.
//
// Both builds find compiled packages in one cache, which knows neither folder. make release-check
// builds everything twice from nothing.
package packages
