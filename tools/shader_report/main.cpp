#include <fmt/format.h>
#include "variants.h"
using namespace unicorn;
int main(int, char** argv){
 auto i=backends::vulkan::VulkanInstance::open({.validation=false}); if(!i){fmt::print("{}\n",i.error().message);return 2;}
 auto d=backends::vulkan::VulkanDevice::open(**i,"vulkan:radv",{.cache_folder=""}); if(!d){fmt::print("{}\n",d.error().message);return 2;}
 fmt::print("{} {} {}\n",(*d)->name(),(*d)->capabilities().description.driver_info,(int)(*d)->capabilities().description.type);
 auto v=shader_report::compile_variants(**d,argv[1]); if(!v){fmt::print("{}\n",v.error().message);return 2;}
 bool head=false;
 for(auto&[k,x]:*v){ if(!head){for(auto&[n,y]:x.statistics)fmt::print("{}; ",n);fmt::print("\n");head=true;}
  fmt::print("{} [{}] w{} V{} S{} lds{} spill {}/{} scr {} waves {} code {} ins {} thr {} wmma {} dot4 {}\n",k.shader,fmt::join(k.constants,","),x.subgroup_size,x.value("VGPRs"),x.value("SGPRs"),x.value("LDS size"),x.value("Spilled VGPRs"),x.value("Spilled SGPRs"),x.value("Scratch size"),x.value("Subgroups per SIMD"),x.value("Code size"),x.value("Instructions"),x.value("Inverse Throughput"),x.n_wmma,x.n_dot4);}
}
