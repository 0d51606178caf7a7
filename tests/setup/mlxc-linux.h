// Included before every source of mlx-c on x86-64 Linux with GCC 12 (see toolchain.sh).
// mlx-c names its half types only on Arm, and calls std::format, which GCC has from version 13.
#pragma once

#ifndef __aarch64__
#include <stdint.h>
#define HAS_FLOAT16
#define HAS_BFLOAT16
typedef uint16_t float16_t;
typedef uint16_t bfloat16_t;
#endif

#if defined(__cplusplus) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#define FMT_HEADER_ONLY
#include <fmt/format.h>
namespace std {
using fmt::format;
}
#endif
