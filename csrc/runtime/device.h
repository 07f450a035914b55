// What all CUDA code shares.
#pragma once

namespace infall::device {

using Stream = void*;  // a cudaStream_t

// Throws with CUDA's text where there is no driver or no device.
int device_count();

// Makes a device current for the calling thread, and the one before again in the end.
class OnDevice {
  public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

  private:
    int before_ = 0;
};

}  // namespace infall::device
