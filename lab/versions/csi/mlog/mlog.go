// Package mlog is the part of monis.app/mlog that the Secrets Store CSI driver
// calls, on klog. The module itself is on no Go proxy.
package mlog

import (
	"context"

	"k8s.io/klog/v2"
)

// Format names the driver's log format; klog writes text whatever it says.
type Format string

const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// Setup returns what must run before the process ends.
func Setup() func() { return klog.Flush }

func Fatal(err error) { klog.FatalDepth(1, err) }

func Error(message string, err error, keysAndValues ...any) {
	klog.ErrorSDepth(1, err, message, keysAndValues...)
}

// ValidateAndSetKlogLevelAndFormatGlobally keeps the level that klog's own -v flag has set.
func ValidateAndSetKlogLevelAndFormatGlobally(context.Context, klog.Level, Format) error { return nil }
