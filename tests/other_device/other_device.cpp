// A device of torch's PrivateUse1 kind that computes on the CPU and is as strict as a GPU.
//
// Its tensors' addresses are none that the host can read: whoever takes one for the host's gets
// SIGSEGV. Every operation without a kernel below comes to `run_on_cpu`, which refuses what CUDA
// refuses (tensors or generators of another device, operations without a deterministic
// implementation) and computes the rest with the CPU's kernel. `allow_float64(False)` takes
// float64 away, as from Apple's GPUs.
#include <ATen/autocast_mode.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>

#include "device_memory.h"
#include "run_on_cpu.h"

namespace {

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target, bool) {
  auto from = source.is_privateuseone() ? host_tensor(source) : source;
  auto to = target.is_privateuseone() ? host_tensor(target) : target;
  at::AutoDispatchBelowADInplaceOrView guard;
  to.copy_(from);
  return target;
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b,
    c10::IntArrayRef stride, c10::IntArrayRef padding, c10::IntArrayRef dilation, bool transposed,
    c10::IntArrayRef output_padding, int64_t groups) {
  bool biased = b && b->defined();
  TORCH_CHECK(w.is_privateuseone() && (!biased || b->is_privateuseone()),
      "convolution: Expected all tensors to be on the same device");
  auto bias = biased ? std::optional(host_tensor(*b)) : std::nullopt;
  return to_device(at::convolution(host_tensor(x), host_tensor(w), bias, stride, padding, dilation,
      transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(const at::Tensor& grad,
    const at::Tensor& x, const at::Tensor& w, c10::IntArrayRef stride, c10::IntArrayRef padding,
    c10::IntArrayRef dilation, bool transposed, c10::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> mask) {
  auto [x_grad, w_grad, b_grad] = at::convolution_backward(host_tensor(grad), host_tensor(x),
      host_tensor(w), c10::IntArrayRef{w.size(transposed ? 1 : 0)}, stride, padding, dilation,
      transposed, output_padding, groups, mask);
  auto moved = [](const at::Tensor& own) { return own.defined() ? to_device(own) : own; };
  return {moved(x_grad), moved(w_grad), moved(b_grad)};
}

at::Tensor as_strided(const at::Tensor& self, c10::IntArrayRef sizes, c10::IntArrayRef strides,
                      std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, sizes, strides, offset);
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset,
                        c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(source));
  self.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  auto elements = static_cast<int64_t>(source.nbytes() / self.itemsize());
  return set_storage(self, std::move(source), 0, {elements}, {1});
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage(
      self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("as_strided", as_strided);
  m.impl("view", at::native::view);
  m.impl("unfold", at::native::unfold);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("resize_", at::native::resize_);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("set_.source_Storage", set_whole_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}
TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(mm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(nll_loss, fp32)
  KERNEL_PRIVATEUSEONE(mse_loss, fp32)
  KERNEL_PRIVATEUSEONE(log_softmax, int, fp32)
  KERNEL_PRIVATEUSEONE(softmax, int, fp32)
}

}  // namespace

TORCH_LIBRARY(other_device, m) {
  c10::SetAllocator(KIND, &memory);
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  m.def("allow_float64", [](bool allowed) { float64_allowed = allowed; });
  m.def("operations", [] { return operations; });
  m.def("random_state", [] { return default_random().get_state(); });
  m.def("set_random_state", [](const at::Tensor& state) { default_random().set_state(state); });
  m.def("seed", [](int64_t seed) { default_random().set_current_seed(seed); });
}
