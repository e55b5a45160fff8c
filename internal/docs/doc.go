// Package docs has no code. Its tests make the pages of docs/ that say what the source
// says, and fail where a page is not current: go test ./internal/docs -update writes them.
package docs
