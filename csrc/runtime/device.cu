#include "runtime/device.h"

#include "runtime/cuda_launch.h"

namespace infall::device {

int device_count() {
    int count = 0;
    check(cudaGetDeviceCount(&count), "counting devices");
    return count;
}

OnDevice::OnDevice(int device) {
    check(cudaGetDevice(&before_), "current device");
    check(cudaSetDevice(device), "choosing the device");
}

OnDevice::~OnDevice() { cudaSetDevice(before_); }

}  // namespace infall::device
