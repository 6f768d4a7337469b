//go:build tools

// Package etcd names the program that the tests need.
package etcd

import _ "go.etcd.io/etcd/server/v3"
