// A device plugin as vendors write them, for the tests: a device that gives a node, a mount and a variable, and one
// that cannot be had.
package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/device"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

// Where the directory that a device brings along lies: each agent of the tests has a /tmp of its own.
const directory = "/tmp/bivouac-test-device"

type testDevice struct{}

func (testDevice) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDevice,
		PluginApiVersions: []string{device.ApiVersion010},
		PluginVersion:     "v0.1.0",
		Name:              "bivouac-test-device",
	}, nil
}

func (testDevice) ConfigSchema() (*hclspec.Spec, error) {
	return hclspec.NewObject(map[string]*hclspec.Spec{}), nil
}

func (testDevice) SetConfig(*base.Config) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "brought"), []byte("brought along\n"), 0o644)
}

func (testDevice) Fingerprint(ctx context.Context) (<-chan *device.FingerprintResponse, error) {
	found := make(chan *device.FingerprintResponse, 1)
	group := func(name string) *device.DeviceGroup {
		return &device.DeviceGroup{
			Vendor: "test", Type: "node", Name: name,
			Devices: []*device.Device{{ID: name + "-0", Healthy: true}, {ID: name + "-1", Healthy: true}},
		}
	}
	found <- device.NewFingerprint(group("zero"), group("broken"))
	go func() {
		<-ctx.Done()
		close(found)
	}()
	return found, nil
}

func (testDevice) Reserve(ids []string) (*device.ContainerReservation, error) {
	if len(ids) != 1 || ids[0][:4] != "zero" {
		return nil, errors.New("this device cannot be had")
	}
	return &device.ContainerReservation{
		Envs:    map[string]string{"TEST_DEVICE": ids[0]},
		Mounts:  []*device.Mount{{TaskPath: "/opt/device", HostPath: directory, ReadOnly: true}},
		Devices: []*device.DeviceSpec{{TaskPath: "/dev/test-zero", HostPath: "/dev/zero", CgroupPerms: "r"}},
	}, nil
}

func (testDevice) Stats(ctx context.Context, _ time.Duration) (<-chan *device.StatsResponse, error) {
	none := make(chan *device.StatsResponse)
	go func() {
		<-ctx.Done()
		close(none)
	}()
	return none, nil
}

func main() {
	plugins.Serve(func(log.Logger) interface{} { return testDevice{} })
}
