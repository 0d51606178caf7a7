// What tracing-oslog's wrapper.c needs of Apple's header of this name, for a build without Apple's SDK.
// The functions are in libSystem; clang itself packs the arguments of a message.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct os_log_s *os_log_t;
typedef uint8_t os_log_type_t;

extern struct os_log_s _os_log_default;
#define OS_LOG_DEFAULT (&_os_log_default)

extern bool os_log_type_enabled(os_log_t log, os_log_type_t type);
extern void _os_log_impl(void *image, os_log_t log, os_log_type_t type, const char *format,
                         uint8_t *arguments, uint32_t arguments_bytes);

// The image that logs: the system finds the format by it, at its place in this section.
extern struct mach_header __dso_handle;
#define TANDEM_LOG_SECTION __attribute__((section("__TEXT,__oslogstring,cstring_literals")))

#define os_log_with_type(log, type, text, ...)                                                     \
  do {                                                                                             \
    os_log_t log_ = (log);                                                                         \
    os_log_type_t type_ = (type);                                                                  \
    if (os_log_type_enabled(log_, type_)) {                                                        \
      TANDEM_LOG_SECTION static const char format_[] = text;                                       \
      uint8_t _Alignas(16) arguments_[__builtin_os_log_format_buffer_size(text, ##__VA_ARGS__)];   \
      _os_log_impl(&__dso_handle, log_, type_, format_,                                            \
                   (uint8_t *)__builtin_os_log_format(arguments_, text, ##__VA_ARGS__),            \
                   (uint32_t)sizeof(arguments_));                                                  \
    }                                                                                              \
  } while (0)
