// Package consumers has no code. Its tests are the programs of the READMEs, built as
// a user would build them: in a module of their own, outside of the workspace, with
// nothing but what this repository would publish and what `go test work` has
// downloaded; and the blocks of code in README and docs, run as they are printed.
package consumers
