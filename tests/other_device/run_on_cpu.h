// Operations of the device on the CPU, and what they refuse as CUDA does.
#pragma once

#include <set>
#include <string>

#include "device_memory.h"

namespace {

const std::set<std::string> NOT_DETERMINISTIC = {  // torch.use_deterministic_algorithms lists them
    "aten::_adaptive_avg_pool2d_backward", "aten::adaptive_max_pool2d_backward",
    "aten::avg_pool3d_backward", "aten::reflection_pad1d_backward",
    "aten::reflection_pad2d_backward", "aten::upsample_linear1d_backward",
    "aten::upsample_bilinear2d_backward", "aten::upsample_bicubic2d_backward",
    "aten::grid_sampler_2d_backward", "aten::nll_loss2d_forward", "aten::_ctc_loss_backward",
    "aten::put_", "aten::histc", "aten::median.dim", "aten::kthvalue", "aten::max_unpool2d"};
const std::set<std::string> CUBLAS = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mv", "aten::addmv",
    "aten::dot"};
// They take numbers of the CPU, as all do that torch tags as pointwise.
const std::set<std::string> NUMBERS = {
    "aten::fill_", "aten::masked_fill_", "aten::index_fill_", "aten::_index_put_impl_"};

void check_deterministic(const std::string& name, const c10::OperatorHandle& op,
                         const torch::jit::Stack& stack) {
  auto& context = at::globalContext();
  if (!context.deterministicAlgorithms()) return;
  bool weighted_count = name == "aten::bincount" && stack[stack.size() - 2].isTensor() &&
      stack[stack.size() - 2].toTensor().defined();
  if (NOT_DETERMINISTIC.count(name) || weighted_count) context.alertNotDeterministic(name);
  TORCH_CHECK(!CUBLAS.count(name) || std::getenv("CUBLAS_WORKSPACE_CONFIG"),
      "Deterministic behavior was enabled [...] set CUBLAS_WORKSPACE_CONFIG");
}

struct Call {  // the arguments of an operation, made the CPU's
  std::string name;
  bool pointwise;
  std::vector<std::pair<at::Tensor, at::Tensor>> written;  // of the device, of the CPU
  std::vector<at::Generator> generators;

  at::Tensor cpu(const at::Tensor& tensor, bool changed, bool resized) {
    if (!tensor.defined()) return tensor;
    if (tensor.is_privateuseone()) {
      if (!resized) return host_tensor(tensor);
      written.emplace_back(tensor, at::empty({0}, tensor.scalar_type()));
      return written.back().second;
    }
    bool number = tensor.dim() == 0 &&
        (pointwise || NUMBERS.count(name) || tensor.unsafeGetTensorImpl()->is_wrapped_number());
    TORCH_CHECK(!changed && number, name, ": Expected all tensors to be on the same "
        "device, but found at least two devices, ", DEVICE, " and ", tensor.device(), "!");
    return tensor;
  }

  at::Generator cpu(const at::Generator& given) {
    TORCH_CHECK(given.device().type() == KIND, name, ": Expected a '", DEVICE.str(),
        "' device type for generator but found '", given.device().type(), "'");
    static_cast<Random*>(given.unsafeGetGeneratorImpl())->here(false);
    generators.push_back(given);
    return given;
  }

  ~Call() {
    for (auto& each : generators) static_cast<Random*>(each.unsafeGetGeneratorImpl())->here(true);
  }
};

// The state of the CPU's generator is the device's for as long as this exists.
struct Exchanged {
  at::Generator cpu = at::detail::getDefaultCPUGenerator();
  Exchanged() { exchange(); }
  ~Exchanged() { exchange(); }
  void exchange() {
    auto* own = at::check_generator<at::CPUGeneratorImpl>(cpu);
    auto* device = static_cast<Random*>(default_random().unsafeGetGeneratorImpl());
    auto engine = own->engine();
    own->set_engine(device->engine());
    device->set_engine(engine);
  }
};

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::AutoDispatchBelowADInplaceOrView guard;
  const auto& schema = op.schema();
  const auto count = schema.arguments().size();
  const auto first = stack->size() - count;
  const torch::jit::Stack given(stack->begin() + first, stack->end());
  Call call{schema.name(), op.hasTag(at::Tag::pointwise), {}, {}};
  check_deterministic(call.name, op, given);
  ++operations;
  bool takes_generator = false;
  for (size_t i = 0; i < count; ++i) {
    auto& value = (*stack)[first + i];
    const auto& argument = schema.arguments()[i];
    bool changed = argument.alias_info() && argument.alias_info()->isWrite();
    bool generator = argument.type()->str().find("Generator") == 0;
    takes_generator = takes_generator || generator;
    if (value.isTensor()) {
      value = call.cpu(value.toTensor(), changed, argument.is_out());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> own;
      for (const at::Tensor& each : value.toTensorVector())
        own.push_back(call.cpu(each, changed, argument.is_out()));
      value = own;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> own;
      for (std::optional<at::Tensor> each : value.toOptionalTensorList()) {
        bool index_of_cpu = !each || each->is_cpu();  // which a GPU takes, too
        own.push_back(index_of_cpu ? each : call.cpu(*each, changed, false));
      }
      value = own;
    } else if (generator) {
      value = call.cpu(value.isNone() ? default_random() : value.toGenerator());
    } else if (value.isDevice()) {
      value = c10::Device(c10::kCPU);
    }
  }
  std::optional<Exchanged> random;
  if (op.hasTag(at::Tag::nondeterministic_seeded) && !takes_generator) random.emplace();
  op.callBoxed(stack);
  for (auto& [own, cpu] : call.written) {
    if (own.sizes() != cpu.sizes()) own.resize_(cpu.sizes());
    host_tensor(own).copy_(cpu);
  }
  const auto returned = stack->size() - schema.returns().size();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    auto& value = (*stack)[returned + i];
    const auto* info = schema.returns()[i].alias_info();
    TORCH_CHECK(!info || info->isWrite(), call.name, ": a view; it needs a kernel of its own");
    if (info) {  // what it wrote to, and not its alias
      for (size_t j = 0; j < count; ++j) {
        const auto* of_argument = schema.arguments()[j].alias_info();
        if (of_argument && *of_argument == *info) value = given[j];
      }
    } else if (value.isTensor()) {
      const auto& own = value.toTensor();
      if (own.defined()) value = to_device(own);
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> moved;
      for (const at::Tensor& each : value.toTensorVector()) moved.push_back(to_device(each));
      value = moved;
    }
  }
}

}  // namespace
