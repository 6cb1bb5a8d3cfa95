# The Vulkan drivers that tests run on: Mesa's software driver (lavapipe), and RADV for compiling
# without a GPU. Sets UNICORN_WITH_LAVAPIPE and UNICORN_WITH_RADV_PHOENIX, launchers for
# unicorn_test(); empty where the driver is not there, and the tests then skip, or fail when
# UNICORN_REQUIRE_VULKAN=1.

set(UNICORN_MESA "${CMAKE_SOURCE_DIR}/build/mesa" CACHE PATH
  "Folder of scripts/mesa (Debian 12), looked at before the system's own drivers")

function(unicorn_find_driver variable unpacked installed)
  find_file(${variable} ${unpacked} PATHS "${UNICORN_MESA}" NO_DEFAULT_PATH)
  find_file(${variable} NAMES ${installed}.json ${installed}.x86_64.json
    PATHS /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d /etc/vulkan/icd.d NO_DEFAULT_PATH)
endfunction()
unicorn_find_driver(UNICORN_LAVAPIPE lavapipe.json lvp_icd)
unicorn_find_driver(UNICORN_RADV radv.json radeon_icd)

# unicorn_driver_launcher(UNICORN_WITH_LAVAPIPE "${UNICORN_LAVAPIPE}" [NAME=VALUE...])
function(unicorn_driver_launcher variable manifest)
  if(NOT manifest)
    set(${variable} "" PARENT_SCOPE)
    return()
  endif()
  set(environment "VK_DRIVER_FILES=${manifest}" ${ARGN})
  cmake_path(IS_PREFIX UNICORN_MESA "${manifest}" NORMALIZE is_unpacked)
  if(is_unpacked)
    list(APPEND environment
      "LD_LIBRARY_PATH=${UNICORN_MESA}/unpacked/usr/lib/x86_64-linux-gnu"
      "VK_LAYER_PATH=${UNICORN_MESA}/unpacked/usr/share/vulkan/explicit_layer.d")
  endif()
  set(${variable} "${CMAKE_COMMAND}" -E env ${environment} PARENT_SCOPE)
endfunction()
unicorn_driver_launcher(UNICORN_WITH_LAVAPIPE "${UNICORN_LAVAPIPE}")
unicorn_driver_launcher(UNICORN_WITH_RADV_PHOENIX "${UNICORN_RADV}" RADV_FORCE_FAMILY=phoenix)
if(UNICORN_WITH_LAVAPIPE)
  message(STATUS "Vulkan tests run on: ${UNICORN_LAVAPIPE}")
else()
  message(STATUS "Vulkan tests: no software driver here (scripts/setup test brings it)")
endif()
