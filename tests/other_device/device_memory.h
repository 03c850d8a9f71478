// Memory, random generator and hooks of the device; tensors on its memory, seen from the CPU.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

constexpr auto KIND = c10::DeviceType::PrivateUse1;
const c10::Device DEVICE(KIND, 0);
const c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);
constexpr uintptr_t OFFSET = uintptr_t(1) << 62;  // no such address exists on 64-bit machines
bool float64_allowed = true;
int64_t operations = 0;

void* host(const void* address) {
  return address ? reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(address) - OFFSET) : nullptr;
}

struct Memory final : c10::Allocator {
  static void free(void* address) { c10::GetCPUAllocator()->raw_deallocate(host(address)); }
  c10::DataPtr allocate(size_t bytes) override {
    auto* own = static_cast<char*>(c10::GetCPUAllocator()->raw_allocate(bytes ? bytes : 1));
    auto* address = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(own) + OFFSET);
    return {address, address, &free, DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(host(to), host(from), bytes);
  }
} memory;

struct Random final : at::CPUGeneratorImpl {
  Random() { here(true); }
  uint64_t get_offset() const override { return 0; }  // GPUs have one: copies of generators ask
  void set_offset(uint64_t) override {}
  // eight bytes more than the CPU's, so that neither takes the other's
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    auto own = at::Tensor(CPUGeneratorImpl::get_state());
    return at::cat({own, at::zeros({8}, at::kByte)}).getIntrusivePtr();
  }
  void set_state(const c10::TensorImpl& given) override {
    auto state = at::empty({given.numel()}, at::kByte);
    std::memcpy(state.data_ptr(), given.data(), given.numel());
    TORCH_CHECK(given.numel() == CPUGeneratorImpl::get_state()->numel() + 8,
        "RNG state is wrong size");
    auto own = state.narrow(0, 0, given.numel() - 8);
    CPUGeneratorImpl::set_state(*own.unsafeGetTensorImpl());
  }
  void here(bool on_device) {  // the CPU's kernels take the CPU's generators alone
    device_ = on_device ? DEVICE : c10::Device(c10::kCPU);
    key_set_ = on_device ? KEYS : c10::DispatchKeySet(c10::DispatchKey::CPU);
  }
};

at::Generator& default_random() {
  static at::Generator generator = at::make_generator<Random>();
  return generator;
}

struct Guard final : c10::impl::NoOpDeviceGuardImpl<KIND> {
  c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
  c10::Device getDevice() const override { return DEVICE; }
  c10::Stream getStream(c10::Device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, DEVICE);
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return default_random();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Random>();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto grown = memory.allocate(bytes);
    memory.copy_data(grown.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr(std::move(grown));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};

// A tensor of the CPU on the same memory.
at::Tensor host_tensor(const at::Tensor& tensor) {
  auto* data = tensor.numel() ? host(tensor.data_ptr()) : nullptr;
  auto options = at::TensorOptions().dtype(tensor.dtype());
  return at::from_blob(data, tensor.sizes(), tensor.strides(), options);
}

c10::ScalarType checked(std::optional<c10::ScalarType> dtype) {
  auto type = c10::dtype_or_default(dtype);
  TORCH_CHECK_TYPE(float64_allowed || type != at::kDouble, "This device has no float64.");
  return type;
}

at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides,
    std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>, std::optional<c10::Device>,
    std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &memory, KEYS, checked(dtype));
}

at::Tensor empty(c10::IntArrayRef sizes, std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout>, std::optional<c10::Device>, std::optional<bool>,
    std::optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory, KEYS, checked(dtype), format);
}

at::Tensor to_device(const at::Tensor& own) {
  auto found = empty_strided(own.sizes(), own.strides(), own.scalar_type(), {}, {}, {});
  host_tensor(found).copy_(own);
  return found;
}

}  // namespace
