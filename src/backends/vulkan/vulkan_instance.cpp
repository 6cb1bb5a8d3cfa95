#include "backends/vulkan/vulkan_instance.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <optional>

#include "backends/vulkan/vulkan_error.h"

namespace unicorn::backends::vulkan {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";

// volk keeps its function pointers in globals; the loader stays open for the process's life, since
// drivers leave threads and exit handlers behind.
Status open_loader(const std::string& library) {
    static std::mutex mutex;
    const std::scoped_lock lock(mutex);
    void* loader = ::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (loader == nullptr) {
        return fail(ErrorCode::not_found,
                    "no Vulkan loader: {} (Debian and Ubuntu: the package libvulkan1)",
                    ::dlerror());
    }
    const auto get =
        reinterpret_cast<PFN_vkGetInstanceProcAddr>(::dlsym(loader, "vkGetInstanceProcAddr"));
    if (get == nullptr) {
        return fail(ErrorCode::not_found, "{} is no Vulkan loader: it has no vkGetInstanceProcAddr",
                    library);
    }
    volkInitializeCustom(get);
    if (volkGetInstanceVersion() < VK_API_VERSION_1_3) {
        return fail(ErrorCode::unsupported, "the Vulkan loader {} is older than Vulkan 1.3",
                    library);
    }
    return {};
}

// The version of the validation layer that is installed.
std::optional<std::uint32_t> installed_validation() {
    std::uint32_t count = 0;
    if (vkEnumerateInstanceLayerProperties(&count, nullptr) != VK_SUCCESS) return std::nullopt;
    std::vector<VkLayerProperties> layers(count);
    if (vkEnumerateInstanceLayerProperties(&count, layers.data()) < 0) return std::nullopt;
    for (const VkLayerProperties& layer : layers) {
        if (std::strcmp(layer.layerName, kValidationLayer) == 0) return layer.specVersion;
    }
    return std::nullopt;
}

DeviceDescription describe(VkPhysicalDevice device) {
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceProperties2 properties = {.sType =
                                                  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
    vkGetPhysicalDeviceProperties(device, &properties.properties);
    // A driver of Vulkan 1.0 or 1.1 need not know the structure.
    if (properties.properties.apiVersion >= VK_API_VERSION_1_2) {
        properties.pNext = &driver;
        vkGetPhysicalDeviceProperties2(device, &properties);
    }
    const VkPhysicalDeviceProperties& p = properties.properties;
    DeviceType type = DeviceType::other;
    switch (p.deviceType) {
        case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: type = DeviceType::integrated; break;
        case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: type = DeviceType::discrete; break;
        case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: type = DeviceType::virtual_gpu; break;
        case VK_PHYSICAL_DEVICE_TYPE_CPU: type = DeviceType::cpu; break;
        default: break;
    }
    return {.name = p.deviceName,
            .driver_name = driver.driverName,
            .driver_info = driver.driverInfo,
            .type = type,
            .vendor_id = p.vendorID,
            .device_id = p.deviceID,
            .api_version = p.apiVersion};
}

}  // namespace

bool validation_wanted() {
    const char* value = std::getenv("UNICORN_VULKAN_VALIDATION");
    return value != nullptr && std::strcmp(value, "1") == 0;
}

bool has_validation_layer(const std::string& library) {
    return open_loader(library) && installed_validation().has_value();
}

Result<std::unique_ptr<VulkanInstance>> VulkanInstance::open(const InstanceOptions& options) {
    if (auto loader = open_loader(options.library); !loader) return forward(loader);
    std::unique_ptr<VulkanInstance> self(new VulkanInstance);

    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO};
    application.pApplicationName = "unicorn";
    application.apiVersion = VK_API_VERSION_1_3;
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
    info.pApplicationInfo = &application;

    VkDebugUtilsMessengerCreateInfoEXT messages = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
    messages.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    messages.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
    messages.pfnUserCallback = on_message;
    messages.pUserData = self.get();
    const VkValidationFeatureEnableEXT enables[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT};
    features.enabledValidationFeatureCount = 1;
    features.pEnabledValidationFeatures = enables;
    features.pNext = &messages;  // also for what happens while the instance is made and unmade
    const char* extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
                                VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
    if (options.validation) {
        const auto version = installed_validation();
        if (!version) {
            return fail(
                ErrorCode::unsupported,
                "UNICORN_VULKAN_VALIDATION=1, but the layer {} is not installed (Debian and "
                "Ubuntu: the package vulkan-validationlayers)",
                kValidationLayer);
        }
        self->validation_version_ = *version;
        info.enabledLayerCount = 1;
        info.ppEnabledLayerNames = &kValidationLayer;
        info.enabledExtensionCount = 2;
        info.ppEnabledExtensionNames = extensions;
        info.pNext = &features;
    }

    if (const VkResult r = vkCreateInstance(&info, nullptr, &self->instance_); r != VK_SUCCESS) {
        self->instance_ = VK_NULL_HANDLE;
        if (r == VK_ERROR_INCOMPATIBLE_DRIVER) {
            return fail(ErrorCode::not_found,
                        "no Vulkan device: the loader found no driver that starts (Debian and "
                        "Ubuntu: the package mesa-vulkan-drivers)");
        }
        return failed(r, "vkCreateInstance");
    }
    volkLoadInstanceOnly(self->instance_);
    if (options.validation) {
        if (const VkResult r = vkCreateDebugUtilsMessengerEXT(self->instance_, &messages, nullptr,
                                                              &self->messenger_);
            r != VK_SUCCESS)
            return failed(r, "vkCreateDebugUtilsMessengerEXT");
    }
    if (auto listed = self->list_devices(); !listed) return forward(listed);
    return self;
}

Status VulkanInstance::list_devices() {
    std::uint32_t count = 0;
    VkResult r = vkEnumeratePhysicalDevices(instance_, &count, nullptr);
    if (r == VK_SUCCESS) {
        physical_devices_.resize(count);
        r = vkEnumeratePhysicalDevices(instance_, &count, physical_devices_.data());
    }
    // A driver that fails to start its hardware says so here; that is a machine without devices.
    if (r == VK_ERROR_INITIALIZATION_FAILED)
        count = 0;
    else if (r < 0)
        return failed(r, "vkEnumeratePhysicalDevices");
    physical_devices_.resize(count);
    for (VkPhysicalDevice device : physical_devices_) descriptions_.push_back(describe(device));
    return {};
}

VulkanInstance::~VulkanInstance() {
    if (messenger_ != VK_NULL_HANDLE)
        vkDestroyDebugUtilsMessengerEXT(instance_, messenger_, nullptr);
    if (instance_ != VK_NULL_HANDLE) vkDestroyInstance(instance_, nullptr);
}

std::vector<std::string> VulkanInstance::validation_errors() const {
    const std::scoped_lock lock(mutex_);
    return validation_errors_;
}

void VulkanInstance::add_validation_error(std::string message) {
    fmt::print(stderr, "vulkan validation: {}\n", message);
    const std::scoped_lock lock(mutex_);
    validation_errors_.push_back(std::move(message));
}

VKAPI_ATTR VkBool32 VKAPI_CALL VulkanInstance::on_message(
    VkDebugUtilsMessageSeverityFlagBitsEXT /*severity*/, VkDebugUtilsMessageTypeFlagsEXT /*types*/,
    const VkDebugUtilsMessengerCallbackDataEXT* data, void* instance) {
    static_cast<VulkanInstance*>(instance)->add_validation_error(data->pMessage);
    return VK_FALSE;  // the call goes on, as it would without the layer
}

}  // namespace unicorn::backends::vulkan
